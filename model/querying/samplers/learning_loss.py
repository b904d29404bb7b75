"""Learning loss (Yoo and Kweon 2019), attached and detached (PT4AL, section 5.1)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank

TOGETHER = StrategyInfo(
    "a module on all stages of the network, trained with it, predicts the highest loss, of 10,000 drawn images",
    "Yoo and Kweon 2019",
    "1.1, 1",
)
SUBSET = 10_000  # images that are looked at, drawn anew in each round (Yoo and Kweon, section 4.1)
ALONE = StrategyInfo("the same, but its training leaves the network alone", "PT4AL's baseline", "1.05, 1")


class LearningLoss:
    """Ask the images whose loss a small module beside the main model predicts to be the highest."""

    scores_are_ranks = True

    def __init__(self, *, detached: bool) -> None:
        """Choose whether the module's training leaves the main model alone (``detached``) or shapes it too."""
        self.need = "detached_losses" if detached else "predicted_losses"
        self.needs = frozenset({self.need})
        self.info = ALONE if detached else TOGETHER

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest predicted loss, of a drawn part of a pool that is larger than it.

        Without the draw, nearly equal images would be asked together.
        """
        indices = candidates.indices
        if len(indices) > max(SUBSET, k):
            indices = generator.choice(indices, max(SUBSET, k), replace=False)
        return query_by_rank(lowest(indices, -candidates.rows(self.need, indices), k)[0])
