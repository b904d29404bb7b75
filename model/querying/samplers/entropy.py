"""Maximum entropy (Shannon 1948; the entropy ablation of PT4AL)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class Entropy:
    """Ask the images whose posterior is the most spread."""

    info = StrategyInfo("the most spread posterior", "PT4AL's ablation")
    needs = frozenset({"entropy"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest entropy."""
        return query_by_rank(lowest(candidates.indices, -candidates.rows("entropy"), k)[0])
