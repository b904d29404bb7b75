"""Boxes: which of them find an object, which objects are missed, and which boxes are false alarms."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from backend.dashboard.overlays.base import Box, BoxKind, Layer, Sides, Size, Word
from backend.dashboard.text import count
from model.data.masks import Pixels
from model.evaluation.boxes import match
from model.problems.base import Prediction, Target
from model.problems.detection import as_arrays

MOST_BOXES = 100  # drawn over a picture: the wrong ones first, then the largest
MOST_WORDS = 12  # boxes that are named in the picture
SCORED = 6  # values of a box with a score, which is the last one
MEANING: dict[BoxKind, str] = {"plain": "", "hit": ", found", "miss": ", missed", "alarm": ", false alarm"}


class BoxOverlay:
    """Rectangles: solid for what is found, dashed for what is missed, dotted for false alarms."""

    kinds: tuple[BoxKind, ...] = ("hit", "miss", "alarm")

    def layer(self, prediction: Prediction, size: Size) -> Layer:
        """Return all boxes, without words."""
        return Layer(_boxes(prediction, ["plain"] * len(prediction), size))

    def sides(self, prediction: Prediction, target: Target, size: Size) -> Sides:
        """Return the objects, found or missed, beside the boxes, right or false alarms."""
        ids = {name: number for number, name in enumerate(dict.fromkeys(box[0] for box in (*target, *prediction)))}
        given = sorted(prediction, key=lambda box: -box[5] if len(box) >= SCORED else 0.0)
        found = match(*as_arrays(given, ids), *as_arrays(target, ids))
        seen = set(found.tolist())
        objects: list[BoxKind] = ["hit" if row in seen else "miss" for row in range(len(target))]
        boxes: list[BoxKind] = ["hit" if row >= 0 else "alarm" for row in found.tolist()]
        several = len(ids) > 1
        return Sides(
            Layer(_boxes(target, objects, size), _words(target, objects, size) if several else ()),
            Layer(_boxes(given, boxes, size), _words(given, boxes, size) if several else ()),
            f"{boxes.count('hit')} found, {_named(target, objects, 'miss', 'missed')}, "
            f"{_named(given, boxes, 'alarm', 'false')}",
        )

    def mask(self, value: Target, size: Size, classes: Sequence[str]) -> Pixels | None:
        """Return None: boxes are no mask."""
        return None

    def colours(self, classes: Sequence[str]) -> list[tuple[str, str]]:
        """Return nothing: strokes say whether a box is right, and words of which class it is."""
        return []


def _boxes(boxes: Sequence[Any], kinds: Sequence[BoxKind], size: Size) -> tuple[Box, ...]:
    pairs = sorted(zip(boxes, kinds, strict=True), key=lambda pair: (pair[1] == "hit", -pair[0][3] * pair[0][4]))
    return tuple(
        Box(
            kind,
            round(box[1] * size[0], 1),
            round(box[2] * size[1], 1),
            round(box[3] * size[0], 1),
            round(box[4] * size[1], 1),
            f"{box[0]}{f' {box[5]:.2f}' if len(box) >= SCORED else ''}{MEANING[kind]}",
        )
        for box, kind in pairs[:MOST_BOXES]
    )


def _words(boxes: Sequence[Any], kinds: Sequence[BoxKind], size: Size) -> tuple[Word, ...]:
    """Return the classes of what is wrong, at the upper left corners, but not beyond the picture's edges."""
    wrong = [box for box, kind in zip(boxes, kinds, strict=True) if kind != "hit"]
    return tuple(
        Word(round(min(box[1], 0.85) * size[0], 1), round(min(box[2], 0.92) * size[1], 1), str(box[0]))
        for box in wrong[:MOST_WORDS]
    )


def _named(boxes: Sequence[Any], kinds: Sequence[BoxKind], kind: BoxKind, what: str) -> str:
    """Return how many boxes are of a kind, and of which classes: ``2 missed (cell, plate)``."""
    classes = Counter(str(box[0]) for box, own in zip(boxes, kinds, strict=True) if own == kind)
    names = ", ".join(f"{number} {name}" if number > 1 else name for name, number in classes.items())
    number = sum(classes.values())
    text = count(number, "false alarm") if what == "false" else f"{number} {what}"
    return f"{text} ({names})" if names else text
