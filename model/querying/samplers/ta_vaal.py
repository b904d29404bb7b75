"""Task-aware variational adversarial active learning (TA-VAAL, Kim, Park, Kim and Chun 2021)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class TaVaal:
    """Ask the images of which a discriminator is surest that nothing like them, of such a rank, is labeled.

    The rank is by the loss that a module beside the main model predicts, which learns which of two losses is higher.
    """

    info = StrategyInfo(
        "as `vaal`, with the rank by predicted losses beside the features; on the network's features, not on pixels",
        "Kim et al. 2021",
        "1.1, 1 and 3 s",
    )
    needs = frozenset({"task_aware_probability"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates with the lowest probability to be labeled."""
        return query_by_rank(lowest(candidates.indices, candidates.rows("task_aware_probability"), k)[0])
