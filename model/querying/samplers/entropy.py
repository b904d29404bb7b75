"""Maximum entropy (Shannon 1948; the entropy ablation of PT4AL)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class Entropy:
    """Ask the images whose posterior is the most spread."""

    info = StrategyInfo("the most spread posterior", "PT4AL's ablation")
    needs = frozenset({"probs"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest entropy."""
        return query_by_rank(lowest(candidates.indices, -entropy(candidates.rows("probs")), k)[0])


def entropy(probs: FloatArray) -> FloatArray:
    """Return the entropy in nats over the last axis: (..., C) -> (...), with 0 log 0 = 0."""
    probs = np.asarray(probs, np.float64)
    nats: FloatArray = -(probs * np.log(np.where(probs > 0, probs, 1.0))).sum(axis=-1)
    return nats
