"""The features of an encoder on disk, by pool index."""

from pathlib import Path

from model.data.rows import CHUNK, Rows, read_header, write_header
from model.errors import BankError
from model.querying.outputs import FEATURES, FloatArray, IntArray

__all__ = ["CHUNK", "FeatureBank"]

_HEADER = "features.json"


class FeatureBank(Rows):
    """A growing (N, dim) array in FEATURES in a folder, whose rows may be written in any order.

    encoder, side: of the encoder that made them. last: number of features of the last layer, the first columns.
    """

    def __init__(self, folder: Path, encoder: str, side: int, dim: int, last: int) -> None:
        """Use ``create`` or ``open``."""
        super().__init__(folder, {"features": (FEATURES, (dim,))})
        self.encoder, self.side, self.dim, self.last = encoder, side, dim, last

    @classmethod
    def create(cls, folder: Path, encoder: str, side: int, dim: int, last: int) -> "FeatureBank":
        """Create an empty one, or open that of the same encoder; raise BankError if it is of another."""
        if (folder / _HEADER).exists():
            bank = cls.open(folder)
            if (bank.encoder, bank.side, bank.dim, bank.last) != (encoder, side, dim, last):
                raise BankError(f"the features in {folder} are those of '{bank.encoder}' at {bank.side} pixels")
            return bank
        bank = cls(folder, encoder, side, dim, last)
        bank.create_files()
        write_header(folder / _HEADER, {"encoder": encoder, "side": side, "dim": dim, "last": last})
        return bank

    @classmethod
    def open(cls, folder: Path) -> "FeatureBank":
        """Open the features in ``folder``; raise BankError if there are none or they are damaged."""
        try:
            header = read_header(folder / _HEADER, "features")
            bank = cls(folder, str(header["encoder"]), *(int(header[name]) for name in ("side", "dim", "last")))
            bank.check()
        except FileNotFoundError as error:
            raise BankError(f"there are no features in {folder}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BankError(f"the header of the features in {folder} is damaged: {error!r}") from error
        return bank

    def write(self, indices: IntArray, rows: FloatArray) -> None:
        """Write the features (n, dim) of these pool indices, (n,) distinct; they count once all are on the disk."""
        self.write_rows(indices, features=rows)

    def gather(self, indices: IntArray) -> FloatArray:
        """Return a copy of the features of these pool indices, (n, dim) in FEATURES."""
        return self.gather_rows("features", indices)
