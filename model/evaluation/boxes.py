"""Boxes against boxes: overlap, matches, and the average precision of a detector. Numpy only.

A box is left, top, width and height, as shares of its image: the overlap of upright boxes does not depend on the
image's aspect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.querying.outputs import BoolArray, FloatArray, IntArray

MATCHED = 0.5  # overlap (IoU) from which two boxes are of the same object
OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # of COCO's mean average precision
RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO reads a precision-recall curve
FEWEST_DRAWS, MOST_DRAWS = 100, 500  # of the bootstrap
WORK = 10_000_000  # boxes times draws of the bootstrap, which take about a second


def overlaps(first: FloatArray, second: FloatArray) -> npt.NDArray[np.float64]:
    """Return intersection over union of each box with each other, (n, 4) and (m, 4) -> (n, m)."""
    a, b = np.asarray(first, np.float64).reshape(-1, 1, 4), np.asarray(second, np.float64).reshape(1, -1, 4)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - shared
    found: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def match(
    boxes: FloatArray, classes: IntArray, true_boxes: FloatArray, true_classes: IntArray, least: float = MATCHED
) -> IntArray:
    """Return for each box the object that it finds, (n,) rows of the true boxes, -1 for none; see ``matches``."""
    return matches(boxes, classes, true_boxes, true_classes, (least,))[:, 0]


def matches(
    boxes: FloatArray, classes: IntArray, true_boxes: FloatArray, true_classes: IntArray, leasts: Sequence[float]
) -> IntArray:
    """Return for each box the object that it finds at each least overlap, (n, T) rows of the true boxes, -1 for none.

    Boxes come with the surest first, as in COCO: each takes the object of its class that it overlaps most, among those
    that none before it has taken, from the least overlap on.
    """
    least = np.asarray(leasts, np.float64)
    found = np.full((len(boxes), len(least)), -1, np.int64)
    if not len(boxes) or not len(true_boxes):
        return found
    overlap = overlaps(boxes, true_boxes)
    overlap[np.asarray(classes)[:, None] != np.asarray(true_classes)[None, :]] = -1.0
    free, steps = np.ones((len(least), len(true_boxes)), np.bool_), np.arange(len(least))
    for row in np.flatnonzero(overlap.max(axis=1) >= least.min()).tolist():
        own = np.where(free, overlap[row], -1.0)  # (T, m)
        best = own.argmax(axis=1)
        taken = np.flatnonzero(own[steps, best] >= least)
        found[row, taken] = best[taken]
        free[taken, best[taken]] = False
    return found


def f1(hits: float, boxes: float, objects: float) -> float:
    """Return the F1 of so many hits among boxes and objects; 1 where both are none."""
    return 2 * hits / (boxes + objects) if boxes + objects else 1.0


@dataclass(frozen=True)
class Detections:
    """The boxes of one class that a detector gives on some images, the surest first.

    scores: (n,). images: (n,) rows of the images. hits: (n, T) whether a box finds an object, at each overlap.
    objects: (m,) number of objects of each image.
    """

    scores: FloatArray
    images: IntArray
    hits: BoolArray
    objects: IntArray

    def average_precision(self, weights: FloatArray | None = None) -> npt.NDArray[np.float64] | None:
        """Return the average precision at each overlap, (T,), as COCO has it; None without an object.

        weights: (m,) how many times each image counts, for the bootstrap; once without.
        """
        counts = np.ones(len(self.objects)) if weights is None else np.asarray(weights, np.float64)
        objects = float((counts * self.objects).sum())
        if objects <= 0:
            return None
        times = counts[self.images]
        given = np.cumsum(times)
        found = np.zeros(len(self._hit_rows))
        for column, rows in enumerate(self._hit_rows):  # recall grows at hits alone, and precision is best there
            hits = np.cumsum(times[rows])
            precision = np.divide(hits, given[rows], out=np.zeros_like(hits), where=given[rows] > 0)
            precision = np.maximum.accumulate(precision[::-1])[::-1]  # the best at any higher recall
            at = np.searchsorted(hits / objects, RECALLS, side="left")
            found[column] = precision[at[at < len(rows)]].sum() / len(RECALLS)
        return found

    @cached_property
    def _hit_rows(self) -> list[IntArray]:
        """The rows of the hits at each overlap."""
        return [np.flatnonzero(column) for column in self.hits.T]


def detections(
    predictions: Sequence[tuple[FloatArray, IntArray, FloatArray]],
    targets: Sequence[tuple[FloatArray, IntArray]],
    classes: int,
) -> list[Detections]:
    """Return what a detector gives on some images, class by class.

    predictions: boxes, classes and scores of each image, the surest first. targets: boxes and classes of each image.
    """
    hits = [np.empty((0, len(OVERLAPS)), np.bool_)]
    hits += [
        matches(boxes, names, *truth, OVERLAPS) >= 0
        for (boxes, names, _), truth in zip(predictions, targets, strict=True)
    ]
    names = np.concatenate([np.empty(0, np.int64), *(names for _, names, _ in predictions)])
    scores = np.concatenate([np.empty(0), *(sure for _, _, sure in predictions)])
    images = np.repeat(np.arange(len(predictions)), [len(sure) for _, _, sure in predictions])
    objects = np.array([np.bincount(names, minlength=classes) for _, names in targets], np.int64).reshape(-1, classes)
    together, order = np.concatenate(hits), np.argsort(-scores, kind="stable")
    parts = (order[names[order] == own] for own in range(classes))
    return [Detections(scores[part], images[part], together[part], objects[:, own]) for own, part in enumerate(parts)]


def mean_average_precision(
    found: Sequence[Detections], weights: FloatArray | None = None
) -> tuple[float, float] | None:
    """Return the mean over the classes that occur: at an overlap of 0.5, and over OVERLAPS; None where none occurs."""
    known = [value for value in (part.average_precision(weights) for part in found) if value is not None]
    if not known:
        return None
    return float(np.mean([value[0] for value in known])), float(np.mean(known))


def bootstrapped(found: Sequence[Detections], images: int, draws: int | None = None, seed: int = 0) -> FloatArray:
    """Return the mean average precision at 0.5 and over OVERLAPS of sets of images drawn with replacement, (d, 2).

    draws: by default MOST_DRAWS, and fewer the more boxes there are, so that it takes about a second at most.
    """
    draws = draws or int(np.clip(WORK // max(sum(len(part.scores) for part in found), 1), FEWEST_DRAWS, MOST_DRAWS))
    generator = np.random.default_rng(seed)
    values = [
        mean_average_precision(
            found, np.bincount(generator.integers(0, images, images), minlength=images).astype(float)
        )
        for _ in range(draws)
    ]
    return np.array([value for value in values if value is not None], np.float64).reshape(-1, 2)
