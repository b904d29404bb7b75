"""A list of measurements in a JSON file that a stopped run goes on from."""

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from model.errors import BadInput
from model.files import write_atomically
from model.world import Setting

R = TypeVar("R")

Say = Callable[[str], None]


class Results(Generic[R]):
    """The rows measured so far, in a JSON file that is whole after each of them, and the work folder beside it."""

    def __init__(self, path: Path, setting: Setting) -> None:
        """Read what is there; raise BadInput where it was measured under another setting or is no results file."""
        self.path, self.work = path, path.with_suffix(".work")
        self.rows: list[R] = []
        noted = self.work / "setting.json"
        if path.exists() or noted.exists():
            self._check(noted, setting)
        if path.exists():
            self._read()
        write_atomically(noted, json.dumps(asdict(setting)).encode())

    def _check(self, noted: Path, setting: Setting) -> None:
        before = json.loads(noted.read_text()) if noted.exists() else None
        if before is None or {**_defaults(), **before} != asdict(setting):
            raise BadInput(
                f"{self.path} holds results of another setting ({before}): name another file, or delete it and "
                f"{self.work}"
            )

    def _read(self) -> None:
        try:
            self.rows = list(json.loads(self.path.read_text()))
        except ValueError as error:
            raise BadInput(f"{self.path} is no results file: {error}") from error

    def add(self, row: R) -> None:
        """Note one row and write the file."""
        self.rows.append(row)
        write_atomically(self.path, json.dumps(self.rows, indent=1).encode())


def _defaults() -> dict[str, Any]:
    """Return what a setting that was noted before a field existed had in its place."""
    return {field.name: field.default for field in fields(Setting) if field.default is not MISSING}
