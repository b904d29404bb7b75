"""Masks: a colour for each class, its name inside, and the overlap of each class in words."""

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from backend.dashboard.overlays.base import BoxKind, Layer, Sides, Size, Word
from model.data.masks import BACKGROUND, IGNORED, Pixels, resized, scaled_down, unpack
from model.evaluation.pixels import class_iou
from model.problems.base import Prediction, Target
from model.problems.segmentation import Segmentation
from model.querying.outputs import BoolArray

NAMED_AT = 64  # pixels of the longer side at which a place for a name is looked for
NAMED_FROM = 0.01  # share of the image from which a class is named in it
MOST_NAMED = 6  # classes whose overlap is told, those that fit worst first
INSIDE, RIM = 110, 255  # opacity of a mask and of its rim, of 255

# Told apart by most people, in this order; of more classes, the hue goes round.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#56b4e9", "#7f3c8d", "#8c564b", "#7fd13b")
GOLDEN_TURN = 0.618034


class MaskOverlay:
    """Coloured areas."""

    kinds: tuple[BoxKind, ...] = ()

    def layer(self, prediction: Prediction, size: Size) -> Layer:
        """Return the mask, without words."""
        return Layer(mask=digest(prediction))

    def sides(self, prediction: Prediction, target: Target, size: Size) -> Sides:
        """Return both masks with the names of their classes, and how far each class overlaps."""
        return Sides(
            Layer(words=_words(target, size), mask=digest(target)),
            Layer(words=_words(prediction, size), mask=digest(prediction)),
            _overlaps(prediction, target),
        )

    def mask(self, value: Target, size: Size, classes: Sequence[str]) -> Pixels | None:
        """Return the class ids at a size; None where nobody painted anything."""
        return resized(unpack(value, classes), size) if "png" in value else None

    def colours(self, classes: Sequence[str]) -> list[tuple[str, str]]:
        """Return each class with its colour."""
        return [(name, colour(number)) for number, name in enumerate(classes, start=1)]


def digest(mask: Any) -> str | None:
    """Return what names a mask's picture for the browser's cache; None where nobody painted anything."""
    if "png" not in mask:
        return None
    return hashlib.sha256("\n".join([mask["png"], *mask["classes"]]).encode()).hexdigest()[:16]


def picture(ids: Pixels) -> bytes:
    """Return class ids as PNG: classes in their colours, each with a rim, and the rest transparent."""
    known = np.where(ids == IGNORED, BACKGROUND, ids)
    rim = _is_rim(known)
    palette, opacity = [0, 0, 0], [0]
    present = [number for number in np.unique(known).tolist() if number != BACKGROUND][:127]
    shown = np.zeros(known.shape, np.uint8)
    for number in present:
        for part, alpha in ((known == number, INSIDE), ((known == number) & rim, RIM)):
            shown[part] = len(opacity)
            palette += _rgb(colour(number))
            opacity.append(alpha)
    image = Image.fromarray(shown, "P")
    image.putpalette(palette)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=bytes(opacity))
    return file.getvalue()


def colour(number: int) -> str:
    """Return the colour of a class, counted from 1."""
    if number <= len(COLOURS):
        return COLOURS[number - 1]
    place = 6 * ((number * GOLDEN_TURN) % 1)
    channels = (abs(place - 3) - 1, 2 - abs(place - 2), 2 - abs(place - 4))
    return "#" + "".join(f"{round(60 + 170 * min(max(share, 0.0), 1.0)):02x}" for share in channels)


def inside(part: BoolArray) -> tuple[int, int]:
    """Return row and column of a pixel that lies as deep in a part (height, width) as any; it has one at least."""
    deeper = part
    while deeper.any():
        part, wide = deeper, np.pad(deeper, 1)
        deeper = deeper & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    rows, columns = np.nonzero(part)
    middle = len(rows) // 2
    return int(rows[middle]), int(columns[middle])


def _words(mask: Any, size: Size) -> tuple[Word, ...]:
    if "png" not in mask:
        return ()
    ids = scaled_down(unpack(mask, mask["classes"]), NAMED_AT)
    words = []
    for number, name in enumerate(mask["classes"], start=1):
        part = ids == number
        if part.mean() >= NAMED_FROM:
            row, column = inside(part)
            x, y = ((place + 0.5) / length for place, length in ((column, ids.shape[1]), (row, ids.shape[0])))
            # So far from the edges that most names are whole.
            words.append(Word(round(min(max(x, 0.12), 0.88) * size[0], 1), round(y * size[1], 1), name, middle=True))
    return tuple(words)


def _overlaps(prediction: Prediction, target: Target) -> str:
    classes = list(dict.fromkeys([*target["classes"], *prediction["classes"]]))
    iou = class_iou(Segmentation().counts(prediction, target, classes))
    pairs = sorted((float(value), name) for value, name in zip(iou, classes, strict=True) if not np.isnan(value))
    text = ", ".join(f"{name} {value:.2f}" for value, name in pairs[:MOST_NAMED])
    more = f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else ""
    return f"IoU: {text}{more}" if pairs else "nothing is painted"


def _is_rim(ids: Pixels) -> BoolArray:
    """Return where a pixel differs from one beside it."""
    rim = np.zeros(ids.shape, np.bool_)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    rim[:, 1:] |= across
    rim[:, :-1] |= across
    rim[1:] |= down
    rim[:-1] |= down
    return rim


def _rgb(text: str) -> list[int]:
    return list(bytes.fromhex(text[1:]))
