"""Smallest margin (Scheffer, Decomain and Wrobel 2001)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class Margin:
    """Ask the images whose two most likely classes are closest."""

    info = StrategyInfo("the two most likely classes are closest", "Scheffer et al. 2001")
    needs = frozenset({"margin"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the smallest difference between the two highest posteriors."""
        return query_by_rank(lowest(candidates.indices, candidates.rows("margin"), k)[0])
