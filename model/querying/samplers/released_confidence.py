"""Least confidence as PT4AL's released code computes it (main.py, get_plabels2)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class ReleasedConfidence:
    """Ask the images of the lowest top posterior, where the logits of each image are scaled to length 1 first.

    Then only their directions count: the most confident posterior of C classes is e / (e + C - 1).
    """

    info = StrategyInfo("the lowest top posterior of logits scaled to length 1", "PT4AL's code")
    needs = frozenset({"logits"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the lowest confidence, ties by pool index."""
        return query_by_rank(lowest(candidates.indices, released_confidence(candidates.rows("logits")), k)[0])


def released_confidence(logits: FloatArray) -> FloatArray:
    """Return the highest softmax of the logits scaled to length 1, (n, C) -> (n,)."""
    logits = np.asarray(logits, np.float64)
    unit = logits / np.maximum(np.linalg.norm(logits, axis=1, keepdims=True), 1e-12)
    powers = np.exp(unit)
    confidence: FloatArray = powers.max(axis=1) / powers.sum(axis=1)
    return confidence
