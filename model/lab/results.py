"""A list of measurements in a JSON file that a stopped run goes on from."""

import fcntl
import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import IO, Any, Generic, Self, TypeVar, cast

from model.data.atomic_files import write_atomically
from model.errors import BadInput
from model.lab.experiment import ExperimentConfig

R = TypeVar("R")

Log = Callable[[str], None]


class Results(Generic[R]):
    """The rows measured so far, in a JSON file that is whole after each of them, and the work folder beside it.

    A context: nobody else writes them meanwhile.
    """

    def __init__(self, path: Path, setting: ExperimentConfig) -> None:
        self.path, self.work, self.setting = path, path.with_suffix(".work"), setting
        self.rows: list[R] = []
        self._noted = self.work / "setting.json"
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Read what is there.

        Raises BadInput where another run writes it, where it was measured under another setting or is no results file.
        """
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock = (self.work / "lock").open("wb")
        except OSError as error:
            raise BadInput(f"no results can be written to {self.path}: {error}") from error
        try:
            self._take()
            if self.path.exists() or self._noted.exists():
                self._check()
            if self.path.exists():
                self._read()
        except BadInput:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()

    def begin(self) -> None:
        """Note the setting, once it is known to be one that can be measured: from here on the work folder is of it."""
        write_atomically(self._noted, json.dumps(asdict(self.setting)).encode())

    def _take(self) -> None:
        try:
            fcntl.flock(cast(IO[bytes], self._lock), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(
                f"another run writes {self.path}: give each its own --json, python -m model.report takes several"
            ) from error

    def _check(self) -> None:
        before = json.loads(self._noted.read_text()) if self._noted.exists() else None
        if before is None or {**_defaults(), **before} != asdict(self.setting):
            raise BadInput(
                f"{self.path} holds results of another setting ({before}): name another file, or delete it and "
                f"{self.work}"
            )

    def _read(self) -> None:
        try:
            rows = json.loads(self.path.read_text())
        except ValueError as error:
            raise BadInput(f"{self.path} is no results file: {error}") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadInput(f"{self.path} is no results file: it holds no list of measurements")
        self.rows = cast(list[R], rows)

    def add(self, row: R) -> None:
        """Note one row and write the file."""
        self.rows.append(row)
        write_atomically(self.path, json.dumps(self.rows, indent=1).encode())


def _defaults() -> dict[str, Any]:
    """Return what a setting that was noted before a field existed had in its place."""
    return {field.name: field.default for field in fields(ExperimentConfig) if field.default is not MISSING}
