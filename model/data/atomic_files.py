"""Write files that are either complete or absent, even if the writing process is killed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_once(path: Path, data: bytes) -> bytes:
    """Write a file that only its user may read, unless there is one; return what it has then.

    Of several processes, on any machine, that do so at once, all return the same.
    """
    with suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            _give_name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return path.read_bytes()


def _give_name(temporary: Path, path: Path) -> None:
    """Give a file its name if nothing has it; raise FileExistsError otherwise."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(temporary.read_bytes())


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
