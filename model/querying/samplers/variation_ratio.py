"""Variation ratio of a committee (Freeman 1965; Beluch et al. 2018)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, query_by_rank


class VariationRatio:
    """Ask the images on which the fewest members of an ensemble agree.

    With three members there are three values only, so that ties are the rule: the least confident mean comes first.
    """

    info = StrategyInfo(
        "the fewest of three networks agree: same labels and start, other seeds", "Beluch et al. 2018", "2.7, 3"
    )
    needs = frozenset({"ensemble_probs"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest share of votes that are not for the most voted class."""
        passes = candidates.rows("ensemble_probs")  # (T, n, C)
        votes = passes.argmax(axis=2)
        agreeing = np.max([(votes == c).sum(axis=0) for c in range(passes.shape[2])], axis=0)
        order = np.lexsort((candidates.indices, passes.mean(axis=0).max(axis=1), agreeing))
        return query_by_rank(candidates.indices[order[:k]])
