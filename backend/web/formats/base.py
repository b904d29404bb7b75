"""The contract of a format, and what it is given: images with their labels, or with what a model says of them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from backend.labeling.base import Item
from model.problems.base import Prediction, Problem, Target

NONE = "labels come with the first answers, and predictions are of images without an answer"
GONE = "they have a label that is not in the labeling interface any more: put it back, or label them again"
NO_SIZE = "their size in pixels is not known: it is noted when an image is fetched, so see that Label Studio shows them"

_LOCAL_FILES = "/data/local-files/"  # of Label Studio, which takes the path as ?d=
_UPLOADS = "/data/upload/"
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Entry:
    """An image with its label, or with what a model says of it.

    image: the reference in the task's data. confidence: of a prediction, None for a label.
    """

    task_id: int
    image: str
    item: Item
    answer: Target | Prediction
    confidence: float | None = None

    @property
    def file_name(self) -> str:
        """The name of the image's file, as whoever imported it had it; by the task where it has none."""
        return file_name(self.image) or f"task-{self.task_id}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels as a browser shows the image; None where they are not known."""
        width, height = self.item.width, self.item.height
        return None if width is None or height is None else (width, height)

    @property
    def pixels(self) -> tuple[int, int]:
        """The same of an image whose size is known."""
        if self.size is None:
            raise ValueError(f"the size of the image of task {self.task_id} is not known")
        return self.size


class Answers:
    """Images to be written, by task id, once: those that cannot be are counted in ``left_out``, by the reason.

    classes: those of the labeling interface.
    """

    def __init__(self, problem: Problem, classes: tuple[str, ...], entries: Iterable[Entry], *, sized: bool) -> None:
        """sized: images whose size is not known are left out."""
        self.problem, self.classes = problem, classes
        self.left_out: dict[str, int] = {}
        self._entries, self._sized = self._usable(entries), sized
        self._first = next(self._entries, None)

    def __bool__(self) -> bool:
        """Tell whether there is any image to be written."""
        return self._first is not None

    def __iter__(self) -> Iterator[Entry]:
        """Yield the images."""
        if self._first is not None:
            yield self._first
        yield from self._entries

    @property
    def why_empty(self) -> str:
        """Why there is none."""
        return "; ".join(f"{why} ({count} images)" for why, count in self.left_out.items()) or NONE

    def _usable(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if not self.problem.fits(entry.answer, self.classes):
                self._leave_out(GONE)
            elif self._sized and entry.size is None:
                self._leave_out(NO_SIZE)
            else:
                yield entry

    def _leave_out(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1


class Format(Protocol):
    """A kind of file.

    title: for people. mimetype: of the file. problems: names of those whose targets it can hold. sized: whether it
    needs the size of each image in pixels.
    """

    title: str
    mimetype: str
    problems: frozenset[str]
    sized: bool

    def write(self, answers: Answers) -> Iterator[bytes]:
        """Yield the file in pieces, so that memory does not grow with the number of images."""
        ...


def reference(entry: Entry) -> dict[str, str]:
    """Return what tells which image an entry is of: the name of its file, and its address in the task's data."""
    # An image that is written into its address would be there twice.
    address = {} if entry.image.startswith("data:") else {"reference": entry.image}
    return {"file_name": entry.file_name, **address}


def file_name(image: str) -> str:
    """Return the name of the file that a reference means, as whoever imported it had it; empty for none."""
    try:
        parts = urlsplit(image)
    except ValueError:  # a host such as "[::"
        return ""
    if parts.scheme == "data":
        return ""
    path = unquote(parts.path)
    if path.endswith(_LOCAL_FILES):
        path = parse_qs(parts.query).get("d", [""])[0]
    name = _CONTROL.sub("_", re.split(r"[\\/]", path)[-1]).strip()
    if _UPLOADS in path:
        name = _UPLOADED.sub("", name)
    return "" if name in (".", "..") else name
