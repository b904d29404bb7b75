"""The least certain part of an image, for masks: a mean over all pixels hardly sees a small object."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_score


class DoubtfulPart:
    """Ask the images whose least certain tenth of the pixels has the lowest mean top posterior, which is the score."""

    info = StrategyInfo("the lowest top posterior in the least certain tenth of the pixels", "this project")
    needs = frozenset({"doubtful_part"})
    scores_are_ranks = False

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the lowest mean, ties by pool index."""
        indices, certainty = lowest(candidates.indices, candidates.rows("doubtful_part").astype(np.float64), k)
        return query_by_score(indices, np.clip(certainty, 0.0, 1.0))
