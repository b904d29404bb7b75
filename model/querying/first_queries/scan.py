"""Clusters by nearest-neighbour consistency: SCAN (Van Gansbeke et al. 2020) with nothing but a linear head.

The head is trained with numpy, not with torch: the worker that plans a round loads no torch. Measured with 5,000 images
of 256 features and one thread: 4.2 s of processor time and 0.12 GB of memory with numpy; with torch, its import
included, 6.1 s and 0.73 GB.
"""

from dataclasses import dataclass

import numpy as np

from model.querying.distances import neighbours, unit_rows
from model.querying.first_queries.clusters import DEFAULT_CLUSTERS, share
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray, IntArray
from model.querying.selection import Candidates, Query, query_by_rank

MOST_TRAINED = 10_000  # images that the head is trained on; it then assigns all images
NEIGHBOURS = 20
ENTROPY_WEIGHT = 5.0  # lambda of SCAN, Eq. 2
HEADS = 5  # trained; the one with the lowest loss is used
STEPS, MINIBATCH, LEARNING_RATE = 300, 1_000, 0.05


class ScanLinear:
    """Ask random images in equal shares from the clusters of a SCAN head on frozen features.

    The head is one linear layer. SCAN itself, which the initial-pools paper has, also fine-tunes the network and then
    trains it on its own sure answers.
    """

    info = StrategyInfo(
        "equal shares of clusters in which neighbours fall together, by a linear layer on frozen features",
        "after SCAN (Van Gansbeke et al. 2020)",
    )
    needs = frozenset({"pretext_embeddings"})
    by_losses = False

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates in equal shares from the clusters that are not empty."""
        features = unit_rows(candidates.rows("pretext_embeddings"))
        clusters = scan_clusters(features, candidates.classes or DEFAULT_CLUSTERS, generator)
        return query_by_rank(candidates.indices[share(clusters, k, generator, proportional=False)])


def scan_clusters(features: FloatArray, clusters: int, generator: np.random.Generator) -> IntArray:
    """Return the SCAN cluster (n,) of each row of ``features`` (n, D)."""
    if len(features) < 2 or clusters < 2:
        return np.zeros(len(features), np.int64)
    spread = np.maximum(features.std(axis=0), 1e-6)
    x = np.hstack([(features - features.mean(axis=0)) / spread, np.ones((len(features), 1), features.dtype)])
    trained = generator.permutation(len(x))[:MOST_TRAINED]
    near = neighbours(features[trained], min(NEIGHBOURS, len(trained) - 1))[0]
    heads = [_train(x[trained], near, clusters, generator) for _ in range(HEADS)]
    best = min(heads, key=lambda head: head.loss)
    return np.asarray((x @ best.weights).argmax(axis=1), np.int64)


@dataclass(frozen=True)
class _Head:
    weights: FloatArray  # (D, clusters)
    loss: float


def _train(x: FloatArray, near: IntArray, clusters: int, generator: np.random.Generator) -> _Head:
    """Train one head with Adam on random pairs of an image and one of its neighbours."""
    weights = generator.normal(0, 0.1, (x.shape[1], clusters)).astype(x.dtype)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    recent: list[float] = []
    for step in range(1, STEPS + 1):
        anchors = generator.integers(len(x), size=min(MINIBATCH, len(x)))
        partners = near[anchors, generator.integers(near.shape[1], size=len(anchors))]
        loss, gradient = scan_loss(weights, x[anchors], x[partners])
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = LEARNING_RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weights = weights - rate * first / (np.sqrt(second) + 1e-8)
        recent = [*recent[-19:], loss]
    return _Head(weights, float(np.mean(recent)))


def scan_loss(weights: FloatArray, anchors: FloatArray, partners: FloatArray) -> tuple[float, FloatArray]:
    """Return SCAN's loss (Eq. 2) of a linear head and its gradient.

    weights: (D, C). anchors, partners: (B, D). Loss: -mean log <p, q> of a pair's cluster probabilities, minus
    ENTROPY_WEIGHT times the entropy of the mean p, which keeps all images from falling into one cluster.
    """
    p, q = _softmax(anchors @ weights), _softmax(partners @ weights)
    agree = np.maximum((p * q).sum(axis=1, keepdims=True), 1e-8)
    mean = np.maximum(p.mean(axis=0), 1e-8)
    loss = float(-np.log(agree).mean() + ENTROPY_WEIGHT * (mean * np.log(mean)).sum())
    by_p = (-q / agree + ENTROPY_WEIGHT * (np.log(mean) + 1)) / len(p)
    by_q = -p / agree / len(p)
    gradient: FloatArray = anchors.T @ _through_softmax(p, by_p) + partners.T @ _through_softmax(q, by_q)
    return loss, gradient


def _softmax(logits: FloatArray) -> FloatArray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return probs


def _through_softmax(p: FloatArray, by_p: FloatArray) -> FloatArray:
    by_logits: FloatArray = p * (by_p - (p * by_p).sum(axis=1, keepdims=True))
    return by_logits
