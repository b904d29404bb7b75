"""Least confidence (Lewis and Gale 1994; PT4AL, Eq. 2)."""

import numpy as np

from model.querying.selection import Candidates, Query, lowest, valued


class LeastConfidence:
    """Ask the images whose most likely class has the lowest posterior; the score is that posterior."""

    needs = frozenset({"probs"})
    ranked = False

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the lowest top-1 posterior, ties by pool index."""
        top = candidates.rows("probs").max(axis=1).astype(np.float64)
        indices, posterior = lowest(candidates.indices, top, k)
        return valued(indices, np.clip(posterior, 0.0, 1.0))  # a float32 softmax can end a step above 1
