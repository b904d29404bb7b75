"""A zip with a file an image, which is written while it is sent."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import IO, cast
from zipfile import ZIP_DEFLATED, ZipFile

from backend.web.formats.base import Answers, Entry, reference
from backend.web.formats.spool import JsonList, encoded

LONGEST = 200  # bytes of a name: with what follows it, file systems take it


class _Sink:
    """What a zip writes to. Its bytes are taken out as they come; it cannot go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class Stems:
    """The name, without its ending, of each image's file: that of the image, with the task where another has it."""

    def __init__(self) -> None:
        self._given = set[str]()

    def of(self, entry: Entry) -> str:
        """Return the name of an image. None is given twice, whatever its case."""
        stem = PurePosixPath(entry.file_name).stem.encode(errors="replace")[:LONGEST].decode(errors="ignore")
        if stem.casefold() in self._given:
            stem = f"{stem}-task-{entry.task_id}"
        self._given.add(stem.casefold())
        return stem


def archived(answers: Answers, files: Iterable[tuple[Entry, str, bytes]], others: dict[str, bytes]) -> Iterator[bytes]:
    """Yield a zip of ``files``, an image with the name and the content of its file each, and of ``others``.

    ``images.json`` in it says which file is of which image, ``left_out.json`` how many images have none, and why.
    """
    sink = _Sink()
    with ZipFile(cast("IO[bytes]", sink), "w", ZIP_DEFLATED) as archive, JsonList() as images:
        for name, content in others.items():
            archive.writestr(name, content)
        for entry, name, content in files:
            archive.writestr(name, content)
            images.add({"task": entry.task_id, "file": name, **reference(entry)})
            yield sink.take()
        with archive.open("images.json", "w") as member:
            for piece in images.pieces():
                member.write(piece)
        if answers.left_out:
            archive.writestr("left_out.json", encoded(answers.left_out))
    yield sink.take()
