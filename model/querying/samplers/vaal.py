"""Variational adversarial active learning (VAAL, Sinha, Ebrahimi and Darrell 2019)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class Vaal:
    """Ask the images of which a discriminator is surest that nothing like them is labeled."""

    info = StrategyInfo(
        "a discriminator is surest that nothing like it is labeled; on the network's features, not on pixels",
        "Sinha et al. 2019",
        "1, 1 and 3 s",
    )
    needs = frozenset({"labeled_probability"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates with the lowest probability to be labeled."""
        return query_by_rank(lowest(candidates.indices, candidates.rows("labeled_probability"), k)[0])
