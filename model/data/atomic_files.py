"""Write files that are either complete or absent, even if the writing process is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``: a reader sees the old content or the new content, never a part.

    The data are on the disk before the name points to them, so that a power cut leaves no empty file.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to. It replaces the file at ``path`` when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a ``.npy`` file that is either complete or absent, without a second copy of the array in memory."""
    with replacing(path) as file:
        np.save(file, array)


def sync_folder(folder: Path) -> None:
    """Flush the names in ``folder`` to the disk; does nothing where folders cannot be opened (Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
