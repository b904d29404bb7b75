"""Arrays on disk by pool index whose rows may be written in any order."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.data.atomic_files import sync_folder, write_atomically
from model.errors import BadInput, BankError
from model.querying.outputs import BoolArray, IntArray

_KNOWN = "known.bin"
_FORMAT = 1
CHUNK = 8192  # rows that are read at once

Column = tuple[npt.DTypeLike, tuple[int, ...]]  # type and shape of a row


class Rows:
    """Growing arrays (N, ...) in a folder, one file a column, whose rows count once they are on the disk.

    A row counts once its byte in ``known.bin`` is set, which happens after the row is on the disk: a killed write
    leaves rows that are not known. One process at a time may write; any number may read.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Column]) -> None:
        """Use those of a subclass. columns: by name of the file, without ``.bin``."""
        self.folder = folder
        self._columns = {name: (np.dtype(kind), shape) for name, (kind, shape) in columns.items()}

    def create_files(self) -> None:
        """Write empty files; the header that a reader looks for is written by ``write_header``, afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (*map(self._path, self._columns), self.folder / _KNOWN):
            path.write_bytes(b"")
        sync_folder(self.folder)

    def check(self) -> None:
        """Raise BankError where a column has fewer rows than are known; FileNotFoundError where a file is missing."""
        known = (self.folder / _KNOWN).stat().st_size
        for name in self._columns:
            size = self._path(name).stat().st_size
            if size < known * self._bytes(name):
                raise BankError(
                    f"{self._path(name)} should have the rows of {known} images, found {size} bytes of them"
                )

    def __len__(self) -> int:
        """Return the number of rows, known or not."""
        return (self.folder / _KNOWN).stat().st_size

    @property
    def known(self) -> BoolArray:
        """Which rows are known, (N,)."""
        known: BoolArray = np.fromfile(self.folder / _KNOWN, np.uint8) == 1
        return known

    def knows(self, indices: IntArray) -> BoolArray:
        """Tell which of these pool indices have rows, (n,); they may be beyond the last row."""
        known = self.known
        inside = indices < len(known)
        found = np.zeros(len(indices), np.bool_)
        found[inside] = known[indices[inside]]
        return found

    def write_rows(self, indices: IntArray, **columns: npt.NDArray[Any]) -> None:
        """Write all columns (n, ...) of these pool indices, (n,) distinct; they count once all are on the disk."""
        order = np.argsort(indices)
        runs = [run for run in np.split(order, np.flatnonzero(np.diff(indices[order]) != 1) + 1) if len(run)]
        for name, rows in columns.items():
            shape = self._columns[name][1]
            if rows.shape != (len(indices), *shape):
                expected = ", ".join(map(str, ("n", *shape)))
                raise BadInput(f"these {name} are ({expected}), found {rows.shape} for {len(indices)} images")
        for name, rows in columns.items():
            _write_runs(self._path(name), [
                (int(indices[run[0]]) * self._bytes(name), rows[run].astype(self._columns[name][0]).tobytes())
                for run in runs
            ])  # fmt: skip
        _write_runs(self.folder / _KNOWN, [(int(indices[run[0]]), b"\1" * len(run)) for run in runs])

    def gather_rows(self, name: str, indices: IntArray) -> npt.NDArray[Any]:
        """Return a copy of these rows of a column, (n, ...); the memory map is closed afterwards."""
        dtype, shape = self._columns[name]
        if not len(indices):
            return np.empty((0, *shape), dtype)
        if not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise BadInput(f"pool indices {indices.min()} to {indices.max()} do not fit {name} of {len(self)} images")
        return np.array(np.memmap(self._path(name), dtype, "r", shape=(len(self), *shape))[indices])

    def chunks(self, size: int | None = None) -> Iterator[IntArray]:
        """Yield the known pool indices below ``size``, ascending, CHUNK at a time."""
        known = np.flatnonzero(self.known[:size])
        for start in range(0, len(known), CHUNK):
            yield known[start : start + CHUNK]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _bytes(self, name: str) -> int:
        dtype, shape = self._columns[name]
        return dtype.itemsize * int(np.prod(shape))


def write_header(path: Path, header: Mapping[str, object]) -> None:
    """Write the header of rows, whole or not at all: from here on they can be opened."""
    write_atomically(path, json.dumps({"format": _FORMAT, **header}).encode())


def read_header(path: Path, what: str) -> dict[str, Any]:
    """Read it; raise FileNotFoundError where there is none, BankError for another format, ValueError for no JSON."""
    header: dict[str, Any] = json.loads(path.read_text())
    if header["format"] != _FORMAT:
        raise BankError(f"the {what} in {path.parent} have a format that this version does not read: {header}")
    return header


def _write_runs(path: Path, runs: list[tuple[int, bytes]]) -> None:
    with path.open("r+b") as file:
        for offset, content in runs:
            file.seek(offset)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
