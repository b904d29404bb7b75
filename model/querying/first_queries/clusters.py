"""First queries that spread over clusters of the pretext network's features."""

import warnings

import numpy as np

from model.querying.distances import unit_rows
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray, IntArray
from model.querying.selection import Candidates, Query, query_by_rank

DEFAULT_CLUSTERS = 10  # where the number of classes is not known
EXACT_LIMIT = 10_000  # rows up to which k-means runs on all of them at once


class KMeans:
    """Ask random images of k-means clusters, one cluster a class (initial-pools paper, section 3.2.2)."""

    needs = frozenset({"pretext_embeddings"})
    by_losses = False

    def __init__(self, *, proportional: bool) -> None:
        """Choose whether a cluster's share follows its size (``proportional``) or all shares are equal."""
        self.proportional = proportional
        shares = "proportional" if proportional else "equal"
        self.info = StrategyInfo(f"{shares} shares of k-means clusters, one a class", "Initial Pools")

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates, dealt from the clusters."""
        features = unit_rows(candidates.rows("pretext_embeddings"))
        clusters = kmeans(features, candidates.classes or DEFAULT_CLUSTERS, generator)
        return query_by_rank(candidates.indices[share(clusters, k, generator, proportional=self.proportional)])


def share(clusters: IntArray, k: int, generator: np.random.Generator, *, proportional: bool) -> IntArray:
    """Return ``k`` positions drawn from clusters, in equal shares or in proportion to their sizes.

    clusters: (n,) cluster of each position. Where a cluster is exhausted, the others give more.
    """
    shuffled = generator.permutation(len(clusters))
    _, group, sizes = np.unique(clusters[shuffled], return_inverse=True, return_counts=True)
    by_group = np.argsort(group, kind="stable")
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    turn = np.empty(len(clusters))
    turn[by_group] = np.arange(len(clusters)) - starts  # 0 for the first of each cluster, 1 for the second, ...
    if proportional:
        turn = (turn + 0.5) / sizes[group]
    return shuffled[np.argsort(turn, kind="stable")[:k]]


def kmeans(x: FloatArray, clusters: int, generator: np.random.Generator) -> IntArray:
    """Return the k-means cluster (n,) of each row of ``x``; in small steps above EXACT_LIMIT rows."""
    from sklearn import cluster, exceptions  # imported here: only few projects use it, and it takes a second

    clusters = min(clusters, len(x))
    kind = cluster.KMeans if len(x) <= EXACT_LIMIT else cluster.MiniBatchKMeans
    seed = int(generator.integers(2**31))
    with warnings.catch_warnings():  # fewer distinct rows than clusters: fewer clusters, which is as it should be
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        return np.asarray(kind(clusters, n_init=1, random_state=seed).fit_predict(x), np.int64)
