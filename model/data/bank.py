"""The image bank: decoded images on disk, memory-mapped, addressed by pool_index."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.data.atomic_files import sync_folder, write_atomically
from model.data.ranges import Ranges
from model.errors import BadInput, BankError
from model.querying.outputs import IntArray

CHANNELS = 3  # grey images are stored as RGB too, so that every network sees one layout

_PIXELS, _HEADER, _DIGESTS = "images.bin", "bank.json", "digests.bin"
_FORMAT = 1
_DIGEST = np.dtype("<u8")


class ImageBank:
    """A growing (N, side, side, 3) uint8 array in a folder.

    ``images.bin`` holds the pixels and ``bank.json`` the number of images. An append becomes visible when the new
    number is renamed into place, after the pixels are on the disk. A killed append leaves bytes beyond the last image;
    readers ignore them and the next append overwrites them. ``digests.bin`` holds 8 bytes of each image's digest, by
    which equal images are found; a bank of an earlier release has none until ``add_digests`` was called. An open bank
    is a snapshot: it sees its own appends, but those of other processes only when it is opened again. One process at a
    time may append; any number may read.

    ranges: what is black and white in it of pictures of more than 8 bits; None where each was read by the range of its
    format, as earlier releases did.
    """

    def __init__(self, folder: Path, side: int, count: int, ranges: Ranges | None = None) -> None:
        """Not to be called: use ``create`` or ``open``."""
        self.folder = folder
        self.side = side
        self.ranges = ranges
        self._count = count

    @classmethod
    def create(cls, folder: Path, side: int, ranges: Ranges | None = None) -> "ImageBank":
        """Create an empty bank for images of ``side`` pixels; raise BankError if the folder has a bank already."""
        if side < 1:
            raise BadInput(f"an image side has to be at least 1 pixel, found {side}")
        if (folder / _HEADER).exists():
            raise BankError(f"there is an image bank in {folder} already")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _PIXELS).write_bytes(b"")
        bank = cls(folder, side, 0, ranges)
        bank._commit(0)
        return bank

    @classmethod
    def open(cls, folder: Path) -> "ImageBank":
        """Open the bank in ``folder`` as it is now; raise BankError if there is none or it is damaged."""
        try:
            header = json.loads((folder / _HEADER).read_text())
            if header["format"] != _FORMAT or header["channels"] != CHANNELS:
                raise BankError(f"the image bank in {folder} has a format that this version does not read: {header}")
            bank = cls(folder, int(header["side"]), int(header["count"]), _ranges(header.get("ranges")))
            size = (folder / _PIXELS).stat().st_size
        except FileNotFoundError as error:
            raise BankError(f"there is no image bank in {folder}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BankError(f"the header of the image bank in {folder} is damaged: {error!r}") from error
        if size < bank._count * bank._stride:
            raise BankError(f"the image bank in {folder} should hold {bank._count} images, found {size} bytes of them")
        return bank

    def __len__(self) -> int:
        return self._count

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """All images as a read-only memory map, (N, side, side, 3); it reads a page when it is accessed."""
        shape = (self._count, self.side, self.side, CHANNELS)
        if self._count == 0:
            return np.empty(shape, np.uint8)
        return np.memmap(self.folder / _PIXELS, np.uint8, "r", shape=shape)

    def gather(self, indices: IntArray) -> npt.NDArray[np.uint8]:
        """Return a copy of the images at ``indices``, (n,) -> (n, side, side, 3).

        The memory map is closed at the end of the call: scoring millions of images keeps one minibatch in memory.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self._count:
            raise BadInput(f"pool indices {indices.min()} to {indices.max()} do not fit a bank of {self._count} images")
        return np.array(self.array[indices])

    def append(self, images: npt.NDArray[np.uint8]) -> int:
        """Append images (n, side, side, 3), all or none, and return the pool index of the first one."""
        expected = (self.side, self.side, CHANNELS)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise BadInput(f"the bank takes uint8 images of (n, {expected}), found {images.dtype} {images.shape}")
        first = self._count
        if len(ImageBank.open(self.folder)) != first:
            raise BankError(f"another process has appended to the image bank in {self.folder}: open it again")
        with (self.folder / _PIXELS).open("r+b") as file:
            file.seek(first * self._stride)
            file.truncate()  # what a killed append left
            np.ascontiguousarray(images).tofile(file)
            file.flush()
            os.fsync(file.fileno())
        if self._digested() >= first:
            self._write_digests(first, digests_of(images))
        self._commit(first + len(images))
        return first

    @property
    def is_digested(self) -> bool:
        """Whether the digests of all images are there."""
        return self._digested() >= self._count

    def digests(self) -> npt.NDArray[np.uint64]:
        """Return the digest (n,) of each of the first n images: all but in a bank of an earlier release.

        Equal images have equal digests. They are made of the pixels, not of a file's bytes: these are what models see,
        they survive another file format or another's metadata, and they are here for images of any release.
        """
        path = self.folder / _DIGESTS
        return np.fromfile(path, _DIGEST, self._count) if path.exists() else np.empty(0, _DIGEST)

    def add_digests(self, part: int = 1024) -> bool:
        """Compute the digests of the next ``part`` images that have none; tell whether all have one now.

        Two processes may do so at once: they write the same.
        """
        first = self._digested()
        indices = np.arange(first, min(first + part, self._count))
        if len(indices):
            self._write_digests(first, digests_of(self.gather(indices)))
        return self.is_digested

    def _digested(self) -> int:
        path = self.folder / _DIGESTS
        return path.stat().st_size // _DIGEST.itemsize if path.exists() else 0

    def _write_digests(self, first: int, digests: npt.NDArray[np.uint64]) -> None:
        path = self.folder / _DIGESTS
        path.touch()
        with path.open("r+b") as file:
            file.seek(first * _DIGEST.itemsize)
            digests.tofile(file)
            file.flush()
            os.fsync(file.fileno())

    def note_ranges(self, ranges: Ranges) -> None:
        """Note the ranges by which the next images are read."""
        self.ranges = ranges
        self._commit(self._count)

    @property
    def _stride(self) -> int:
        return self.side * self.side * CHANNELS  # bytes an image

    def _commit(self, count: int) -> None:
        header: dict[str, object] = {"format": _FORMAT, "side": self.side, "channels": CHANNELS, "count": count}
        if self.ranges is not None:
            header["ranges"] = {kind: list(ends) for kind, ends in self.ranges.items()}
        sync_folder(self.folder)
        write_atomically(self.folder / _HEADER, json.dumps(header).encode())
        self._count = count


def digests_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the digest of each image, (n, side, side, 3) -> (n,)."""
    rows = np.ascontiguousarray(images)
    content = b"".join(hashlib.blake2b(row.data, digest_size=_DIGEST.itemsize).digest() for row in rows)
    return np.frombuffer(content, _DIGEST)


def _ranges(stored: Any) -> Ranges | None:
    if stored is None:
        return None
    return {str(kind): (float(low), float(high)) for kind, (low, high) in stored.items()}
