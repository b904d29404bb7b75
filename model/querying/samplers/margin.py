"""Smallest margin (Scheffer, Decomain and Wrobel 2001)."""

import numpy as np

from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, lowest, ranked


class Margin:
    """Ask the images whose two most likely classes are closest."""

    needs = frozenset({"probs"})
    ranked = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the smallest difference between the two highest posteriors."""
        return ranked(lowest(candidates.indices, margins(candidates.rows("probs")), k)[0])


def margins(probs: FloatArray) -> FloatArray:
    """Return the difference between the two highest posteriors: (n, C) -> (n,); with one class all are alike, 0."""
    if probs.shape[1] < 2:
        return np.zeros(len(probs))
    second, first = np.partition(np.asarray(probs, np.float64), -2, axis=1)[:, -2:].T
    difference: FloatArray = first - second
    return difference
