"""The pretext loss alone (PT4AL, section 6.1: the ablation "pretext only")."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, query_by_rank


class PretextLoss:
    """Ask by the pretext loss, without a look at what the main model says; with ``batch_order: none`` of the pool.

    Images without a loss come last.
    """

    needs: frozenset[str] = frozenset()
    scores_are_ranks = True

    def __init__(self, *, highest: bool) -> None:
        """Choose whether the highest losses are asked or the lowest."""
        self._sign = -1.0 if highest else 1.0
        self.info = StrategyInfo(f"the {'highest' if highest else 'lowest'} pretext losses", "PT4AL's ablation")

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest or lowest losses, ties by pool index."""
        losses = self._sign * np.asarray(candidates.losses[candidates.indices], np.float64)  # NaN is sorted last
        return query_by_rank(candidates.indices[np.lexsort((candidates.indices, losses))[:k]])
