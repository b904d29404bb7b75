"""Uniform draw: the control that every claim is measured against."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, query_by_rank


class Random:
    """Ask images drawn uniformly without replacement."""

    info = StrategyInfo("drawn", "control")
    needs: frozenset[str] = frozenset()
    by_losses = False
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` random candidates in random order."""
        return query_by_rank(generator.permutation(candidates.indices)[:k])
