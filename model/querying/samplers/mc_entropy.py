"""Entropy of the mean posterior over dropout passes (Gal et al. 2017; DBAL in the initial-pools paper's toolkit)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class McEntropy:
    """Ask the images whose mean posterior over stochastic passes is the most spread.

    Unlike ``bald``, it also asks images that every single pass is unsure of.
    """

    info = StrategyInfo(
        "the most spread mean posterior of 20 passes with dropout, as `bald` has them", "Gal et al. 2017; Initial Pools"
    )
    needs = frozenset({"dropout_entropy"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest entropy."""
        return query_by_rank(lowest(candidates.indices, -candidates.rows("dropout_entropy"), k)[0])
