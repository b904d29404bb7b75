"""BALD by dropout (Houlsby et al. 2011; Gal, Islam and Ghahramani 2017): mutual information, see ``mc_entropy``."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class Bald:
    """Ask the images on which stochastic passes are each sure and disagree: mutual information of label and model."""

    info = StrategyInfo(
        "20 passes with dropout (p = 0.5 before the head, in training too) are each sure and disagree",
        "Gal et al. 2017",
    )
    needs = frozenset({"mutual_information"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest mutual information."""
        return query_by_rank(lowest(candidates.indices, -candidates.rows("mutual_information"), k)[0])
