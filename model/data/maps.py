"""The feature maps of a pool's views on disk, by pool index: what is computed once and read in every round."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.data.rows import Rows, read_header, write_header
from model.errors import BankError
from model.querying.outputs import FEATURES, BoolArray, FloatArray, IntArray

_HEADER = "maps.json"

Shape = tuple[int, int, int]


class MapBank(Rows):
    """Growing arrays (N, C, H, W) in FEATURES, one for each map of an encoder, with a checksum of the view of each.

    encoder: that made them. shapes: of the maps of an image. A row is of its view only while the checksums are equal:
    another picture may have taken the place. With EfficientNet-lite0 and views of 320 pixels an image takes 282 kB.
    """

    def __init__(self, folder: Path, encoder: str, shapes: Sequence[Shape]) -> None:
        """Use ``open_or_create``."""
        self.encoder, self.shapes = encoder, tuple(tuple(shape) for shape in shapes)
        self._names = [f"map{number}" for number in range(len(self.shapes))]
        columns = {name: (FEATURES, shape) for name, shape in zip(self._names, self.shapes, strict=True)}
        super().__init__(folder, {**columns, "views": (np.uint32, ())})

    @classmethod
    def open_or_create(cls, folder: Path, encoder: str, shapes: Sequence[Shape]) -> "MapBank":
        """Open the maps of this encoder in ``folder``; begin anew where they are of another one, or damaged."""
        bank = cls(folder, encoder, shapes)
        wanted = {"encoder": encoder, "shapes": [list(shape) for shape in shapes]}
        try:
            header = read_header(folder / _HEADER, "feature maps")
            if {name: header[name] for name in wanted} == wanted:
                bank.check()
                return bank
        except (BankError, FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # they can be computed again
        bank.create_files()
        write_header(folder / _HEADER, wanted)
        return bank

    def has(self, indices: IntArray, views: npt.NDArray[np.uint8]) -> BoolArray:
        """Tell of which of these pool indices the maps are those of these views, (n,)."""
        known = self.knows(indices)
        kept = self.gather_rows("views", indices[known])
        known[known] = kept == checksums(views[known])
        return known

    def write(self, indices: IntArray, views: npt.NDArray[np.uint8], maps: Sequence[FloatArray]) -> None:
        """Write the maps (n, C, H, W) of the views of these pool indices, (n,) distinct."""
        self.write_rows(indices, **dict(zip(self._names, maps, strict=True)), views=checksums(views))

    def gather(self, indices: IntArray) -> list[FloatArray]:
        """Return copies of the maps of these pool indices, (n, C, H, W) each."""
        return [self.gather_rows(name, indices) for name in self._names]


def row_bytes(shapes: Sequence[Shape]) -> int:
    """Return the bytes that the maps of an image take."""
    return sum(channels * height * width for channels, height, width in shapes) * np.dtype(FEATURES).itemsize


def checksums(views: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return a checksum of each view, (n,)."""
    return np.array([zlib.crc32(view.tobytes()) for view in views], np.uint32)
