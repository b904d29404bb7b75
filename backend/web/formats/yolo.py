"""YOLO's text files: a line a box, with the number of its class and its centre and size as shares of the image."""

from collections.abc import Iterator

from backend.web.formats.archive import Stems, archived
from backend.web.formats.base import Answers, Entry
from backend.web.formats.spool import encoded

DIGITS = 6  # decimals


class Yolo:
    """A zip with ``labels/<name of the image>.txt``, empty where there is no object, and the classes.

    Predictions have their score as a sixth number, as ultralytics writes them.
    """

    title, mimetype, sized = "YOLO (zip)", "application/zip", False
    problems = frozenset({"detection"})

    def write(self, answers: Answers) -> Iterator[bytes]:
        """Yield the zip."""
        ids, stems = {name: number for number, name in enumerate(answers.classes)}, Stems()
        # Names in JSON are YAML too, whatever is in them.
        names = b"".join(b"  %d: %s\n" % (number, encoded(name)) for name, number in ids.items())
        others = {
            "data.yaml": b"path: .\ntrain: images\nval: images\nnames:\n" + names,
            "classes.txt": "".join(f"{' '.join(name.split())}\n" for name in ids).encode(),
        }
        files = ((entry, f"labels/{stems.of(entry)}.txt", _lines(entry, ids)) for entry in answers)
        return archived(answers, files, others)


def _lines(entry: Entry, ids: dict[str, int]) -> bytes:
    lines = []
    for name, left, top, width, height, *score in entry.answer:
        numbers = (left + width / 2, top + height / 2, width, height, *score)
        lines.append(" ".join([str(ids[name]), *(f"{number:.{DIGITS}f}" for number in numbers)]))
    return "".join(f"{line}\n" for line in lines).encode()
