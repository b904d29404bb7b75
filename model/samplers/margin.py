"""Smallest margin (Scheffer, Decomain and Wrobel 2001)."""

import numpy as np

from model.selection import Candidates, Query, lowest, ranked


class Margin:
    """Ask the images whose two most likely classes are closest."""

    needs = frozenset({"probs"})
    ranked = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the smallest difference between the two highest posteriors."""
        probs = candidates.rows("probs")
        if probs.shape[1] < 2:  # one class: no margin, every image is as good as any other
            return ranked(lowest(candidates.indices, probs[:, 0], k)[0])
        second, first = np.partition(probs, -2, axis=1)[:, -2:].T
        return ranked(lowest(candidates.indices, first - second, k)[0])
