"""The features of an encoder on disk, by pool index."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.data.atomic_files import sync_folder, write_atomically
from model.errors import BadInput, BankError
from model.querying.outputs import FEATURES, BoolArray, FloatArray, IntArray

_ROWS, _KNOWN, _HEADER = "features.bin", "known.bin", "features.json"
_FORMAT = 1
_ITEM = np.dtype(FEATURES).itemsize
CHUNK = 8192  # images whose features are read at once


class FeatureBank:
    """A growing (N, dim) array in FEATURES in a folder, whose rows may be written in any order.

    A row counts once its byte in ``known.bin`` is set, which happens after the row is on the disk: a killed write
    leaves rows that are not known. One process at a time may write; any number may read.
    encoder, side: of the encoder that made them. last: number of features of the last layer, the first columns.
    """

    def __init__(self, folder: Path, encoder: str, side: int, dim: int, last: int) -> None:
        """Use ``create`` or ``open``."""
        self.folder, self.encoder, self.side, self.dim, self.last = folder, encoder, side, dim, last

    @classmethod
    def create(cls, folder: Path, encoder: str, side: int, dim: int, last: int) -> "FeatureBank":
        """Create an empty one, or open that of the same encoder; raise BankError if it is of another."""
        if (folder / _HEADER).exists():
            bank = cls.open(folder)
            if (bank.encoder, bank.side, bank.dim, bank.last) != (encoder, side, dim, last):
                raise BankError(f"the features in {folder} are those of '{bank.encoder}' at {bank.side} pixels")
            return bank
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_ROWS, _KNOWN):
            (folder / name).write_bytes(b"")
        header = {"format": _FORMAT, "encoder": encoder, "side": side, "dim": dim, "last": last}
        sync_folder(folder)
        write_atomically(folder / _HEADER, json.dumps(header).encode())
        return cls(folder, encoder, side, dim, last)

    @classmethod
    def open(cls, folder: Path) -> "FeatureBank":
        """Open the features in ``folder``; raise BankError if there are none or they are damaged."""
        try:
            header = json.loads((folder / _HEADER).read_text())
            if header["format"] != _FORMAT:
                raise BankError(f"the features in {folder} have a format that this version does not read: {header}")
            bank = cls(folder, str(header["encoder"]), *(int(header[name]) for name in ("side", "dim", "last")))
            rows, known = ((folder / name).stat().st_size for name in (_ROWS, _KNOWN))
        except FileNotFoundError as error:
            raise BankError(f"there are no features in {folder}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BankError(f"the header of the features in {folder} is damaged: {error!r}") from error
        if rows < known * bank.dim * _ITEM:
            raise BankError(f"the features in {folder} should be those of {known} images, found {rows} bytes of them")
        return bank

    def __len__(self) -> int:
        """Return the number of rows, known or not."""
        return (self.folder / _KNOWN).stat().st_size

    @property
    def known(self) -> BoolArray:
        """Which rows are known, (N,)."""
        known: BoolArray = np.fromfile(self.folder / _KNOWN, np.uint8) == 1
        return known

    def knows(self, indices: IntArray) -> BoolArray:
        """Tell which of these pool indices have features, (n,); they may be beyond the last row."""
        known = self.known
        inside = indices < len(known)
        found = np.zeros(len(indices), np.bool_)
        found[inside] = known[indices[inside]]
        return found

    def write(self, indices: IntArray, rows: FloatArray) -> None:
        """Write the features (n, dim) of these pool indices, (n,) distinct; they count once all are on the disk."""
        if rows.shape != (len(indices), self.dim):
            raise BadInput(f"these features are (n, {self.dim}), found {rows.shape} for {len(indices)} images")
        order = np.argsort(indices)
        runs = np.split(order, np.flatnonzero(np.diff(indices[order]) != 1) + 1)
        _write_runs(self.folder / _ROWS, [
            (int(indices[run[0]]) * self.dim * _ITEM, np.ascontiguousarray(rows[run], FEATURES).tobytes())
            for run in runs if len(run)
        ])  # fmt: skip
        _write_runs(self.folder / _KNOWN, [(int(indices[run[0]]), b"\1" * len(run)) for run in runs if len(run)])

    def gather(self, indices: IntArray) -> FloatArray:
        """Return a copy of the features of these pool indices, (n, dim) in FEATURES; the map is closed afterwards."""
        if not len(indices):
            return np.empty((0, self.dim), FEATURES)
        if not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise BadInput(f"pool indices {indices.min()} to {indices.max()} do not fit features of {len(self)} images")
        mapped: FloatArray = np.memmap(self.folder / _ROWS, FEATURES, "r", shape=(len(self), self.dim))
        return np.array(mapped[indices])

    def chunks(self, size: int | None = None) -> Iterator[IntArray]:
        """Yield the known pool indices below ``size``, ascending, CHUNK at a time."""
        known = np.flatnonzero(self.known[:size])
        for start in range(0, len(known), CHUNK):
            yield known[start : start + CHUNK]


def _write_runs(path: Path, runs: list[tuple[int, bytes]]) -> None:
    with path.open("r+b") as file:
        for offset, content in runs:
            file.seek(offset)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
