"""MaxHerding: the images that stand for most of the pool (Bae, Oliveira and Sutherland 2024)."""

import numpy as np

from model.querying.herding import Herding
from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, query_by_rank


class MaxHerding:
    """Ask, one after the other, the image that covers most of what nothing asked covers yet.

    What is to be covered is the whole pool. The kernel is as wide as the hundredth part of the pool that is nearest to
    an image.
    """

    info = StrategyInfo("stands for the most images that nothing asked stands for", "Bae et al. 2024")
    needs = frozenset({"pretext_embeddings"})
    by_losses = False

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates, each the one of the largest gain; of a large pool, of a drawn part of it.

        More than that part are filled up at random.
        """
        herding = Herding(candidates, "pretext_embeddings", k, generator)
        picks = herding.pick(k, herding.width_of_pool(), np.ones(len(herding.measured), np.float32))
        rest = np.setdiff1d(np.arange(len(candidates.indices)), picks)
        more = generator.permutation(rest)[: max(k - len(picks), 0)]
        return query_by_rank(candidates.indices[np.concatenate([picks, more])])
