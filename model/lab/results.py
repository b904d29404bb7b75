"""A JSON file with a list of measurements, from which a stopped run continues."""

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

from filelock import FileLock, Timeout

from model.data.atomic_files import write_atomically
from model.errors import BadInput
from model.lab.experiment import ExperimentConfig

R = TypeVar("R")

Log = Callable[[str], None]


class Results(Generic[R]):
    """The rows measured so far, in a JSON file that is complete after each row, and the work folder beside it.

    A context manager: it holds a lock, so that no other process writes the same file.
    """

    def __init__(self, path: Path, config: ExperimentConfig) -> None:
        self.path, self.work, self.config = path, path.with_suffix(".work"), config
        self.rows: list[R] = []
        self._config_file = self.work / "setting.json"
        self._lock = FileLock(self.work / "lock")

    def __enter__(self) -> Self:
        """Take the lock and read the rows.

        Raises:
            BadInput: another run writes the file, it belongs to another configuration, or it is no results file.
        """
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise BadInput(
                f"another run writes {self.path}: give each its own --json, python -m model.report takes several"
            ) from error
        except OSError as error:
            raise BadInput(f"no results can be written to {self.path}: {error}") from error
        try:
            if self.path.exists() or self._config_file.exists():
                self._check()
            if self.path.exists():
                self._read()
        except BadInput:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Release the lock."""
        self._lock.release()

    def begin(self) -> None:
        """Write the configuration into the work folder: from here on, the folder belongs to it."""
        write_atomically(self._config_file, json.dumps(asdict(self.config)).encode())

    def _check(self) -> None:
        before = json.loads(self._config_file.read_text()) if self._config_file.exists() else None
        if before is None or {**_defaults(), **before} != asdict(self.config):
            raise BadInput(
                f"{self.path} holds results of another configuration ({before}): name another file, or delete it and "
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
        """Append a row and write the file."""
        self.rows.append(row)
        write_atomically(self.path, json.dumps(self.rows, indent=1).encode())


def _defaults() -> dict[str, Any]:
    """Return the defaults of the configuration, for files from before a field existed."""
    return {field.name: field.default for field in fields(ExperimentConfig) if field.default is not MISSING}
