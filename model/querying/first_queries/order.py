"""First queries that only look at the order of the batch."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, query_by_rank


class Even:
    """Ask images at even intervals of the batch (PT4AL, section 4.3: the choice of the paper)."""

    info = StrategyInfo("at even intervals", "PT4AL")
    needs: frozenset[str] = frozenset()
    by_losses = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the candidates at the positions floor(i * n / k)."""
        k = min(k, len(candidates.indices))
        return query_by_rank(candidates.indices[np.arange(k) * len(candidates.indices) // max(k, 1)])


class Top:
    """Ask the first images of the batch (the top-K ablation of PT4AL; Initial Pools, Eq. 1)."""

    info = StrategyInfo("the first ones", "PT4AL's ablation; Initial Pools")
    needs: frozenset[str] = frozenset()
    by_losses = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the first ``k`` candidates in the order of the split."""
        return query_by_rank(candidates.indices[:k])
