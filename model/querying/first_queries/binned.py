"""First query from bins of the loss (initial-pools paper, section 4.1, after Roy et al. 2018)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, query_by_rank


class Binned:
    """Ask k/n images from each of n equal bins of the loss: the hardest of each upper bin, the easiest of the last."""

    needs: frozenset[str] = frozenset()
    by_losses = True

    def __init__(self, bins: int) -> None:
        self.bins = bins
        asks = f"the hardest of each of {bins} bins of the loss, the easiest of the last"
        self.info = StrategyInfo(asks, "Initial Pools")

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the candidates bin by bin; what a bin is short of, or k/n leaves over, comes from the first bins."""
        n = len(candidates.indices)
        losses = candidates.losses[candidates.indices]
        falling = candidates.indices[np.argsort(-losses, kind="stable")]  # NaN, of an image without a loss, is last
        parts = np.array_split(falling, min(self.bins, max(n, 1)))
        if len(parts) > 1:
            parts[-1] = parts[-1][::-1]
        place = np.concatenate([np.arange(len(part)) for part in parts])  # 0 for the first choice of each bin
        dealt = np.argsort(place, kind="stable")  # one of each bin in turn
        return query_by_rank(np.concatenate(parts)[dealt[:k]])
