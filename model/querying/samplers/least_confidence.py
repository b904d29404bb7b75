"""Least confidence (Lewis and Gale 1994; PT4AL, Eq. 2)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_score


class LeastConfidence:
    """Ask the images whose prediction has the lowest confidence; the score is that confidence.

    Of one class an image, that is the posterior of the most likely class; of masks, its mean over the pixels.
    """

    info = StrategyInfo("the lowest top posterior", "Lewis and Gale 1994; PT4AL")
    needs = frozenset({"top_posterior"})
    scores_are_ranks = False

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the lowest confidence, ties by pool index."""
        indices, confidence = lowest(candidates.indices, candidates.rows("top_posterior").astype(np.float64), k)
        return query_by_score(indices, np.clip(confidence, 0.0, 1.0))  # a float32 softmax can end a step above 1
