"""How well class masks fit, from counts of pixels.

A count is an array (K, K): pixels by true class (rows) and predicted class (columns), K = 1 + number of classes, the
background first. Ignored pixels are not in it. The background is not a class: it counts where something is missed or
drawn that is not there, but has no intersection over union of its own, which would be near 1 in every image.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.data.masks import IGNORED, Pixels
from model.errors import BadInput
from model.querying.outputs import FloatArray

Counts = npt.NDArray[np.int64]

DRAWS = 1000  # of the bootstrap


def count_pixels(predicted: Pixels, truth: Pixels, classes: int) -> Counts:
    """Return the count of one image, (classes + 1, classes + 1), from class ids of the same shape."""
    if predicted.shape != truth.shape:
        raise BadInput(f"masks of {predicted.shape} and {truth.shape} pixels cannot be compared")
    known = (truth != IGNORED) & (predicted != IGNORED)
    size = classes + 1
    pairs = truth[known].astype(np.int64) * size + predicted[known]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def class_iou(counts: Counts) -> FloatArray:
    """Return the intersection over union of each class, (..., K, K) -> (..., K - 1); NaN where it occurs in neither."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return _iou(hits, counts.sum(axis=-1) + counts.sum(axis=-2) - hits)


def mean_iou(counts: Counts) -> FloatArray:
    """Return the mean over the classes that occur, (..., K, K) -> (...); 1 where none does."""
    return _mean(class_iou(counts))


def weighted_iou(counts: Counts) -> float:
    """Return the intersection over union of the classes, each weighted by its true pixels; NaN without any."""
    truth = counts.sum(axis=-1)[1:]
    return float(np.nansum(class_iou(counts) * truth) / truth.sum()) if truth.sum() else float("nan")


def interval(counts: Sequence[Counts], seed: int = 0, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean IoU of summed counts, by a bootstrap over the images; (0, 1) without any."""
    if not len(counts):
        return 0.0, 1.0
    # Of an image's count, hits, true and predicted pixels of each class are enough: (n, 3, K).
    parts = np.stack([[np.diagonal(own), own.sum(axis=1), own.sum(axis=0)] for own in counts]).astype(np.float64)
    generator = np.random.default_rng(seed)
    # How often each image is drawn, not which: the sums are one matrix product.
    times = generator.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), DRAWS).astype(np.float64)
    hits, truth, predicted = np.moveaxis(np.tensordot(times, parts, axes=(1, 0)), 1, 0)
    low, high = np.quantile(_mean(_iou(hits, truth + predicted - hits)), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _iou(hits: FloatArray | Counts, union: FloatArray | Counts) -> FloatArray:
    """Return the intersection over union of each class but the background, (..., K) -> (..., K - 1); NaN without."""
    with np.errstate(invalid="ignore", divide="ignore"):
        iou: FloatArray = (hits / np.where(union > 0, union, np.nan))[..., 1:]
    return iou


def _mean(iou: FloatArray) -> FloatArray:
    """Return the mean over the classes that have one; 1 where none has."""
    present = ~np.isnan(iou)
    total, number = np.where(present, iou, 0.0).sum(axis=-1), present.sum(axis=-1)
    mean: FloatArray = np.where(number > 0, total / np.maximum(number, 1), 1.0)
    return mean
