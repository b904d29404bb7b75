"""TypiClust: the densest image of each cluster (Hacohen, Dekel and Weinshall 2022)."""

import numpy as np

from model.querying.distances import neighbours, unit_rows
from model.querying.first_queries.clusters import kmeans
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray, IntArray
from model.querying.selection import Candidates, Query, query_by_rank

NEIGHBOURS = 20  # typicality looks at the mean distance to so many images of the cluster, or to half of a small one
MOST_CLUSTERS = 500
SAMPLE = 4096  # images that are clustered, or four times what is asked: more have the same groups, and take long
LARGE_CLUSTER = 5  # clusters of at most so many images come last: they are outliers more than a group


class Typical:
    """Ask the most typical image of each cluster that nothing covers yet, the largest clusters first."""

    info = StrategyInfo("the densest image of each cluster", "TypiClust (Hacohen et al. 2022)")
    needs = frozenset({"pretext_embeddings"})
    by_losses = False

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates; where there are more of them than clusters, each cluster is asked again in turn.

        Of a batch of more than SAMPLE images, or four times ``k`` where that is more, a part is drawn, and of the
        covered images as well.
        """
        most = max(SAMPLE, 4 * k)
        free, covered = (
            generator.choice(indices, most, replace=False) if len(indices) > most else indices
            for indices in (candidates.indices, candidates.covered)
        )
        features = unit_rows(candidates.rows("pretext_embeddings", np.concatenate([free, covered])))
        clusters = kmeans(features, min(k + len(covered), MOST_CLUSTERS), generator)
        size = len(free)
        turns = _turns(clusters[:size], np.bincount(clusters[size:], minlength=int(clusters.max()) + 1))
        members = {c: np.flatnonzero(clusters[:size] == c) for c in turns}
        picks: list[int] = []
        while len(picks) < min(k, size):
            for c in [c for c in turns if len(members[c])][: k - len(picks)]:
                best = int(_mean_distance(features[members[c]]).argmin())
                picks.append(int(members[c][best]))
                members[c] = np.delete(members[c], best)
        return query_by_rank(free[picks])


def _turns(clusters: IntArray, covered: IntArray) -> list[int]:
    """Return the clusters in the order in which they are asked: the least covered, then the largest."""
    sizes = np.bincount(clusters, minlength=len(covered))
    order = np.lexsort((-sizes, covered, sizes + covered <= LARGE_CLUSTER))
    return [int(c) for c in order if sizes[c]]


def _mean_distance(x: FloatArray) -> FloatArray:
    """Return the mean distance (n,) of each row to its nearest neighbours: the inverse of typicality."""
    if len(x) == 1:
        return np.zeros(1)
    mean: FloatArray = neighbours(x, max(1, min(NEIGHBOURS, len(x) // 2)))[1].mean(axis=1)
    return mean
