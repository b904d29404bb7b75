"""The images of a pool with their aspect kept, on disk by pool index, for problems that ask where things are."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.data.letterbox import Letterbox
from model.data.rows import Rows, read_header, write_header
from model.errors import BadInput, BankError
from model.querying.outputs import IntArray

UNKNOWN_SIZE = (0, 0)  # of an image that could not be fetched again: its view is the whole square

_HEADER = "views.json"


class ViewBank(Rows):
    """A growing (N, side, side, 3) uint8 array of letterboxed images (``model.data.letterbox``), with original sizes.

    Rows may be written in any order. An image takes 3 * side * side bytes: 307 kB at 320 pixels.
    """

    def __init__(self, folder: Path, side: int) -> None:
        """Use ``create`` or ``open``."""
        super().__init__(folder, {"pixels": (np.uint8, (side, side, 3)), "sizes": (np.int32, (2,))})
        self.side = side

    @classmethod
    def create(cls, folder: Path, side: int) -> "ViewBank":
        """Create an empty one, or open that of the same side; raise BankError if it is of another."""
        if side < 1:
            raise BadInput(f"a view's side has to be at least 1 pixel, found {side}")
        if (folder / _HEADER).exists():
            bank = cls.open(folder)
            if bank.side != side:
                raise BankError(f"the views in {folder} are of {bank.side} pixels")
            return bank
        bank = cls(folder, side)
        bank.create_files()
        write_header(folder / _HEADER, {"side": side})
        return bank

    @classmethod
    def open(cls, folder: Path) -> "ViewBank":
        """Open the views in ``folder``; raise BankError if there are none or they are damaged."""
        try:
            bank = cls(folder, int(read_header(folder / _HEADER, "views")["side"]))
            bank.check()
        except FileNotFoundError as error:
            raise BankError(f"there are no views in {folder}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BankError(f"the header of the views in {folder} is damaged: {error!r}") from error
        return bank

    def write(self, indices: IntArray, pixels: npt.NDArray[np.uint8], sizes: IntArray) -> None:
        """Write views (n, side, side, 3) of these pool indices, (n,) distinct, and original sizes (n, 2).

        A size is width and height in pixels as a browser shows the image, after its EXIF rotation, or UNKNOWN_SIZE.
        """
        self.write_rows(indices, pixels=pixels, sizes=sizes)

    def gather(self, indices: IntArray) -> npt.NDArray[np.uint8]:
        """Return a copy of these views, (n, side, side, 3)."""
        return self.gather_rows("pixels", np.asarray(indices, np.int64))

    def sizes(self, indices: IntArray) -> IntArray:
        """Return width and height of these images as a browser shows them, (n, 2)."""
        return self.gather_rows("sizes", np.asarray(indices, np.int64)).astype(np.int64)

    def letterboxes(self, indices: IntArray) -> list[Letterbox]:
        """Return how each of these images lies in its view."""
        unknown = (self.side, self.side)
        sizes = [unknown if size == UNKNOWN_SIZE else size for size in map(tuple, self.sizes(indices).tolist())]
        return [Letterbox(width, height, self.side) for width, height in sizes]
