"""Uncertainty herding: uncertain images that stand for many others (Bae, Oliveira and Sutherland 2024, Algorithm 1)."""

import numpy as np

from model.querying.herding import Herding
from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, lowest, query_by_rank


class UncertaintyHerding:
    """Ask, one after the other, the image that covers most of the uncertainty that nothing labeled or asked covers yet.

    What is to be covered is the whole pool, also where only a batch of it may be asked. An image covers those near it,
    by a Gaussian kernel between embeddings of length 1. Its width is the median distance of a labeled image to its
    nearest: few labels spread far and call for whole regions, many for places of doubt. The paper takes the smallest
    distance, which one pair of copies makes zero.
    """

    info = StrategyInfo(
        "stands for the most images that the model doubts and nothing labeled stands for", "Bae et al. 2024"
    )
    needs = frozenset({"uncertainty", "embeddings"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates, each the one of the largest gain; of a large pool, of a drawn part of it.

        More than that part are filled up by uncertainty.
        """
        herding = Herding(candidates, "embeddings", k, generator)
        doubt = candidates.rows("uncertainty", herding.measured)
        costs = candidates.costs(candidates.indices[herding.drawn])
        picks = herding.pick(k, herding.width_of_labels(), doubt, costs)
        everything = np.arange(len(candidates.indices))
        rest = candidates.indices[np.setdiff1d(everything, picks)] if len(picks) < k else candidates.indices[:0]
        more, _ = lowest(rest, -candidates.rows("uncertainty", rest), k - len(picks))
        return query_by_rank(np.concatenate([candidates.indices[picks], more]))
