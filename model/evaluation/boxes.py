"""Boxes against boxes: overlap, matches, and the average precision of a detector. Numpy only.

A box is left, top, width and height, as shares of its image: the overlap of upright boxes does not depend on the
image's aspect.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.querying.outputs import BoolArray, FloatArray, IntArray

MATCHED = 0.5  # overlap (IoU) from which two boxes are of the same object
OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # of COCO's mean average precision
RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO reads a precision-recall curve


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
    """Return for each box the object that it finds, (n,) rows of the true boxes, -1 for none.

    Boxes come with the surest first, as in COCO: each takes the object of its class that it overlaps most, among those
    that none before it has taken, from ``least`` on.
    """
    found = np.full(len(boxes), -1, np.int64)
    if not len(boxes) or not len(true_boxes):
        return found
    overlap = overlaps(boxes, true_boxes)
    overlap[np.asarray(classes)[:, None] != np.asarray(true_classes)[None, :]] = -1.0
    for row in range(len(boxes)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= least:
            found[row] = best
            overlap[:, best] = -1.0
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
        times = counts[self.images][:, None]
        hits = np.cumsum(self.hits * times, axis=0)
        given = np.cumsum(times, axis=0)
        precision = np.divide(hits, given, out=np.zeros_like(hits), where=given > 0)
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]  # the best at any higher recall
        recall = hits / objects
        found = np.zeros(self.hits.shape[1])
        for column in range(len(found)):
            at = np.searchsorted(recall[:, column], RECALLS, side="left")
            inside = at < len(recall)
            found[column] = precision[at[inside], column].sum() / len(RECALLS)
        return found


def detections(
    predictions: Sequence[tuple[FloatArray, IntArray, FloatArray]],
    targets: Sequence[tuple[FloatArray, IntArray]],
    classes: int,
) -> list[Detections]:
    """Return what a detector gives on some images, class by class.

    predictions: boxes, classes and scores of each image, the surest first. targets: boxes and classes of each image.
    """
    found = []
    for own in range(classes):
        scores, images, hits, objects = [np.empty(0)], [np.empty(0, np.int64)], [np.empty((0, len(OVERLAPS)), bool)], []
        for image, ((boxes, names, sure), (true_boxes, true_names)) in enumerate(
            zip(predictions, targets, strict=True)
        ):
            given, wanted = boxes[names == own], true_boxes[true_names == own]
            objects.append(len(wanted))
            same = np.zeros(len(given), np.int64), np.zeros(len(wanted), np.int64)
            hits.append(np.stack([match(given, same[0], wanted, same[1], least) >= 0 for least in OVERLAPS], axis=1))
            scores.append(sure[names == own])
            images.append(np.full(len(given), image))
        together = np.concatenate(scores)
        order = np.argsort(-together, kind="stable")
        found.append(
            Detections(together[order], np.concatenate(images)[order], np.concatenate(hits)[order], np.array(objects))
        )
    return found


def mean_average_precision(
    found: Sequence[Detections], weights: FloatArray | None = None
) -> tuple[float, float] | None:
    """Return the mean over the classes that occur: at an overlap of 0.5, and over OVERLAPS; None where none occurs."""
    known = [value for value in (part.average_precision(weights) for part in found) if value is not None]
    if not known:
        return None
    return float(np.mean([value[0] for value in known])), float(np.mean(known))


def bootstrapped(found: Sequence[Detections], images: int, draws: int = 500, seed: int = 0) -> FloatArray:
    """Return the mean average precision at 0.5 and over OVERLAPS of sets of images drawn with replacement, (d, 2)."""
    generator = np.random.default_rng(seed)
    values = [
        mean_average_precision(
            found, np.bincount(generator.integers(0, images, images), minlength=images).astype(float)
        )
        for _ in range(draws)
    ]
    return np.array([value for value in values if value is not None], np.float64).reshape(-1, 2)
