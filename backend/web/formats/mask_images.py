"""Masks as pictures: a PNG an image, of its size, whose colours are a palette and whose pixels are class ids."""

import io
from collections.abc import Iterator

from PIL import Image

from backend.web.formats.archive import Stems, archived
from backend.web.formats.base import Answers, Entry
from backend.web.formats.spool import encoded
from model.data.masks import BACKGROUND, IGNORED, fitted, unpack

BITS = 8  # of a class id, and of a colour


class MaskImages:
    """A zip with ``masks/<name of the image>.png``, and ``classes.json`` with the name of each id."""

    title, mimetype, sized = "masks (PNG, zip)", "application/zip", True
    problems = frozenset({"segmentation"})

    def write(self, answers: Answers) -> Iterator[bytes]:
        """Yield the zip."""
        stems, colours = Stems(), palette()
        names = {BACKGROUND: "background", **dict(enumerate(answers.classes, start=1)), IGNORED: "ignored"}
        files = ((entry, f"masks/{stems.of(entry)}.png", _png(entry, answers.classes, colours)) for entry in answers)
        return archived(answers, files, {"classes.json": encoded(names)})


def _png(entry: Entry, classes: tuple[str, ...], colours: bytes) -> bytes:
    image = Image.fromarray(fitted(unpack(entry.answer, classes), entry.pixels))
    image.putpalette(colours)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def palette() -> bytes:
    """Return the colours of the class ids, three bytes each: those of PASCAL VOC, where near ids differ much.

    The lowest bits of an id are the highest ones of red, green and blue, in turns.
    """
    colours = bytearray()
    for number in range(1 << BITS):
        for channel in range(3):
            value = 0
            for turn in range(BITS // 3 + 1):
                value |= (number >> (3 * turn + channel) & 1) << (BITS - 1 - turn)
            colours.append(value)
    return bytes(colours)
