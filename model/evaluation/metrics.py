"""Numbers that say how good a model, a split or a pair of annotators is."""

from math import sqrt
from statistics import NormalDist

import numpy as np

from model.errors import BadInput
from model.querying.outputs import FloatArray, IntArray

ROUNDING = 1e-9  # share of an image by which sums of qualities may miss what they are exactly


def accuracy(predicted: IntArray, truth: IntArray) -> float | None:
    """Return the share of ``predicted`` that equals ``truth``; None without any image."""
    _same_length(predicted, truth)
    return float((np.asarray(predicted) == np.asarray(truth)).mean()) if len(truth) else None


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share of ``correct`` in ``n``; (0, 1) without any image.

    Source: Wilson 1927. It stays inside [0, 1] and is honest for the few images of a holdout.
    """
    if not (0 <= correct <= n and 0 < confidence < 1):
        raise BadInput(f"no interval for {correct} of {n} at confidence {confidence}")
    return (0.0, 1.0) if n == 0 else _wilson(correct / n, n, confidence)


def mean_interval(total: float, squares: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean of ``n`` qualities from 0 to 1; (0, 1) without any image.

    total, squares: sums of the qualities and of their squares. It is the Wilson score interval for as many images that
    are right or wrong as would measure the mean as exactly: qualities that lie closer together than 0 and 1 tell more.
    Where all are 0 or 1, it is ``wilson_interval(total, n)``. Raises BadInput for sums that no qualities have.
    """
    if not 0 < confidence < 1:
        raise BadInput(f"no interval at confidence {confidence}")
    ratio = variance_ratio(total, squares, n)
    return (0.0, 1.0) if n == 0 else _wilson(total / n, n / ratio, confidence)


def variance_ratio(total: float, squares: float, n: int) -> float:
    """Return the variance of ``n`` qualities over that of right and wrong answers with the same mean, above 0 to 1.

    total, squares: sums of the qualities and of their squares. One observation of the largest variance is added, so
    that few qualities that happen to be alike do not pass for exact. 1 where all are 0 or 1.
    """
    tolerance = ROUNDING * max(n, 1)
    if not (-tolerance <= squares <= total + tolerance <= n + 2 * tolerance and total**2 <= n * squares + tolerance):
        raise BadInput(f"no {n} qualities from 0 to 1 have the sum {total} and the sum of squares {squares}")
    mean = total / n if n else 0.0
    largest = mean * (1 - mean)
    if squares == total or largest <= 0:
        return 1.0
    variance = max(squares / n - mean**2, 0.0)
    return min((n * variance + largest) / ((n + 1) * largest), 1.0)


def _wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(max(share * (1 - share), 0.0) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (0.0 if share <= 0 else centre - half), (1.0 if share >= 1 else centre + half)


def cohen_kappa(a: IntArray, b: IntArray) -> float | None:
    """Return Cohen's kappa of two annotators' class ids (n,): 1 agreement, 0 chance.

    None where it is not defined: no image, or both gave one and the same class throughout.
    """
    _same_length(a, b)
    if len(a) == 0:
        return None
    _, ids = np.unique(np.concatenate([a, b]), return_inverse=True)
    table = confusion_matrix(ids[len(a) :], ids[: len(a)], int(ids.max()) + 1) / len(a)
    chance = float(table.sum(axis=0) @ table.sum(axis=1))
    return None if chance == 1.0 else (float(np.trace(table)) - chance) / (1 - chance)


def spearman(a: FloatArray, b: FloatArray) -> float | None:
    """Return Spearman's rank correlation of two (n,) arrays, ties at their mean rank; None where one is constant."""
    from scipy.stats import spearmanr  # imported here: the web does not need it, and it takes a second

    _same_length(a, b)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


def confusion_matrix(predicted: IntArray, truth: IntArray, classes: int) -> IntArray:
    """Return the (C, C) counts: row true class, column predicted class."""
    _same_length(predicted, truth)
    for ids in (predicted, truth):
        if len(ids) and not 0 <= int(np.min(ids)) <= int(np.max(ids)) < classes:
            raise BadInput(f"class ids {np.min(ids)} to {np.max(ids)} do not fit {classes} classes")
    cell = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cell, minlength=classes * classes).reshape(classes, classes)


def class_histogram(labels: IntArray, classes: int) -> IntArray:
    """Return the number of images of each class, (C,); negative ids stand for no label and are not counted."""
    labels = np.asarray(labels, np.int64)
    if len(labels) and int(labels.max()) >= classes:
        raise BadInput(f"class id {labels.max()} does not fit {classes} classes")
    return np.bincount(labels[labels >= 0], minlength=classes)


def _same_length(a: FloatArray | IntArray, b: FloatArray | IntArray) -> None:
    if len(a) != len(b):
        raise BadInput(f"found {len(a)} and {len(b)} values where there has to be one pair per image")
