"""Figures of the fault tests, written as they come: a run that is interrupted keeps what it has measured."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(os.environ.get("FAULTS_RESULTS") or Path(__file__).parents[1] / "faults" / "results.json")
TIMES = int(os.environ.get("FAULTS_TIMES") or 1)
"""How often each random fault is provoked."""

Note = Callable[..., None]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Note:
    """Note a figure of this test."""

    def note(**values: Any) -> None:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        entry = known.setdefault(request.node.nodeid.partition("::")[2], {})
        entry |= {**values, "at": time.strftime("%Y-%m-%d %H:%M")}
        part = RESULTS.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        part.replace(RESULTS)

    return note
