"""The parts of the labels for a cross-validation."""

import numpy as np

from model.problems.base import Encoded
from model.querying.outputs import IntArray


def deal(truth: Encoded, folds: int, seed: int, most: int | None = None) -> tuple[IntArray, list[IntArray]]:
    """Return the rows of the labels that are dealt out, and those of each fold, ascending.

    The labels of a class are dealt out one by one. most: of more labels, so many are drawn. There are fewer folds than
    asked for where a fold would have less than two labels, and none where that leaves a single one.
    """
    rows = np.random.default_rng([seed, 0]).permutation(len(truth))[:most]
    if truth.ndim == 1 and truth.dtype.kind == "i":
        rows = rows[np.argsort(truth[rows], kind="stable")]
    count = min(folds, len(rows) // 2)
    return np.sort(rows), [np.sort(rows[fold::count]) for fold in range(count)] if count > 1 else []
