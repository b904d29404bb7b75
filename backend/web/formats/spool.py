"""A JSON list that comes later in a file than what it is made beside."""

import json
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, Self

IN_MEMORY = 8 << 20  # bytes; the rest waits on the disk
PIECE = 1 << 16  # bytes


class JsonList:
    """Values that wait until all of them are there, in memory or on the disk."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - it is closed with this
        self._before = b"[\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, value: Any) -> None:
        """Put a value at the end."""
        self._file.write(self._before + encoded(value))
        self._before = b",\n"

    def pieces(self) -> Iterator[bytes]:
        """Yield the list, in pieces."""
        if self._before == b"[\n":
            yield b"["
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece
        yield b"]"


def encoded(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")
