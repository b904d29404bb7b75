"""Features of a graph network that tells labeled images from unlabeled ones (CoreGCN, Caramalau et al. 2021)."""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import seeded
from model.querying.distances import unit_rows
from model.querying.outputs import FEATURES, FloatArray, IntArray, as_features

HIDDEN, DROPOUT = 128, 0.3
STEPS, LEARNING_RATE, WEIGHT_DECAY = 200, 1e-3, 5e-4
UNLABELED_WEIGHT = 1.2  # of the unlabeled images' loss (Eq. 6: lambda)
SUBSET = 10_000  # unlabeled images that the network is trained on, drawn
CHUNK = 8192  # images that go through the trained network at once


def graph_features(embeddings: FloatArray, labeled: IntArray, *, seed: int, device: torch.device) -> FloatArray:
    """Return what the graph network makes of each image before its answer, (N, HIDDEN) of type FEATURES.

    embeddings: (N, D). labeled: (m,) pool indices. Where everything is labeled, or nothing, the network learns nothing.
    It is trained on the labeled images and at most SUBSET others, on their graph; then every image goes through it on
    the graph of the pool. The authors' code asks of the SUBSET only.
    """
    features = nonnegative(embeddings)
    unlabeled = np.setdiff1d(np.arange(len(embeddings)), labeled)
    network = seeded(lambda: GraphNetwork(features.shape[1]), seed).to(device)
    if len(labeled) and len(unlabeled):
        drawn = np.random.default_rng(seed).permutation(unlabeled)[:SUBSET]
        part = torch.from_numpy(features[np.concatenate([labeled, drawn])]).to(device)
        _train(network, part, len(labeled), seed)
    mixed, found = Graph(torch.from_numpy(features)), []
    with torch.no_grad():
        spread = mixed.spread(torch.from_numpy(features))
        for start in range(0, len(features), CHUNK):
            found.append(network.hidden(spread[start : start + CHUNK].to(device)).cpu().numpy())
    return as_features(np.concatenate([np.empty((0, HIDDEN), FEATURES), *found]))


def nonnegative(embeddings: FloatArray) -> FloatArray:
    """Return unit rows whose products, the edges of the graph, are never negative: (n, D) -> (n, D) or (n, D + 1).

    Features after a ReLU are so already. Others get a constant, which makes a cosine c an edge of (1 + c) / 2.
    """
    unit = unit_rows(embeddings)
    if not (unit < 0).any():
        return unit
    return np.hstack([unit, np.ones((len(unit), 1), np.float32)]) / np.float32(np.sqrt(2))


class Graph:
    """The adjacency A = D^-1 (S - I) + I of features of length 1, with S their products (Eq. 4), never written out.

    D: the sums of the rows of S - I.
    """

    def __init__(self, features: Tensor) -> None:
        """features: (n, D)."""
        self._features = features
        self._degrees = (features @ features.sum(dim=0) - 1).clamp(min=1e-6).unsqueeze(1)

    def spread(self, values: Tensor) -> Tensor:
        """Return A times the values, (n, W) -> (n, W)."""
        similar = self._features @ (self._features.T @ values)
        return (similar - values) / self._degrees + values


class GraphNetwork(nn.Module):
    """Two graph convolutions: A relu(A X W0 + b0) W1 + b1, with dropout between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.dropout = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, 1), nn.Dropout(DROPOUT)
        bounds = (HIDDEN**-0.5, 1.0)  # uniform, by the number of outputs (Kipf and Welling 2017)
        for layer, bound in zip((self.first, self.second), bounds, strict=True):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)

    def hidden(self, spread: Tensor) -> Tensor:
        """Return the features before the answer, from A X: (n, D) -> (n, HIDDEN)."""
        return cast(Tensor, self.first(spread)).relu()

    def logits(self, graph: Graph, spread: Tensor) -> Tensor:
        """Return the logit of each image being labeled, (n,)."""
        return cast(Tensor, self.second(graph.spread(self.dropout(self.hidden(spread))))).squeeze(1)


def labeled_loss(logits: Tensor, labeled: int) -> Tensor:
    """Return the mean cross-entropy of the labeled images, which come first, and UNLABELED_WEIGHT times the others'."""
    return (
        functional.softplus(-logits[:labeled]).mean() + UNLABELED_WEIGHT * functional.softplus(logits[labeled:]).mean()
    )


def _train(network: GraphNetwork, features: Tensor, labeled: int, seed: int) -> None:
    graph = Graph(features)
    spread = graph.spread(features)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
        torch.manual_seed(seed)
        for _ in range(STEPS):
            optimizer.zero_grad()
            labeled_loss(network.logits(graph, spread), labeled).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()
