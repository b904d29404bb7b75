"""``make demo``, from its start to its result, as a person sees it who has installed everything."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Log, Measure, limit
from benchmarks.ports import free_port

RESULT_S = 120.0
ROOT = Path(__file__).parents[1]


def run(log: Log) -> list[Measure]:
    """Run the demo once, to the end of its recording."""
    log("demo: three rounds of digits, then all losses recorded")
    with tempfile.TemporaryDirectory() as folder:
        given = {"EXIT": "1", "DEMO_DIR": folder, "PORT": str(free_port()), "LS_PORT": str(free_port())}
        started, shown, last = time.perf_counter(), None, ""
        process = subprocess.Popen(
            [sys.executable, "-m", "backend", "demo"],
            env={**os.environ, **given}, cwd=ROOT, text=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if shown is None and line.startswith("Dashboard"):
                shown = time.perf_counter() - started
            last = line
        seconds = time.perf_counter() - started
        if process.wait() or shown is None:
            raise RuntimeError(f"the demo failed: {last}")
    outcome = json.loads(last)
    turns = ", ".join(f"{one['turnaround_s']:.1f}" for one in outcome["rounds"])
    return [
        limit("make demo after installation, to its result", "s", shown, RESULT_S, f"next queues after {turns} s"),
        limit("make demo, until all losses are recorded", "s", seconds, None, f"{outcome['recorded']:,} tasks"),
    ]
