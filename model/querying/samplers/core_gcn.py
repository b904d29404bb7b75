"""CoreGCN: k-center among the features of a graph network (Caramalau, Bhattarai and Kim 2021)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.samplers.core_set import k_center
from model.querying.selection import Candidates, Query, query_by_rank


class CoreGcn:
    """Ask, one after the other, the image farthest from all that is labeled or asked, as a graph network sees it.

    Its nodes are the images with the learner's features, its edges their similarity, and it learns which are labeled.
    The authors' released code takes the features that go into the network instead, which is ``core_set`` on unit rows.
    """

    info = StrategyInfo(
        "as `core_set`, on features of a graph network that learns which images are labeled",
        "Caramalau et al. 2021",
        "1, 1 and 5 s",
    )
    needs = frozenset({"graph_features"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates that cover the graph's features; the first is drawn where nothing is covered yet."""
        return query_by_rank(candidates.indices[k_center(candidates, "graph_features", k, generator)])
