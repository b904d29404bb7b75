"""CoreGCN's graph network against dense matrices and the formulas of its paper."""

import numpy as np
import torch

from model.learners.graph import UNLABELED_WEIGHT, Graph, GraphNetwork, graph_features, labeled_loss, nonnegative

CPU = torch.device("cpu")


def features(n=40, seed=0):
    """Features of two groups, as a network with a ReLU at its end has them."""
    generator = np.random.default_rng(seed)
    x = np.abs(generator.normal(size=(n, 6))).astype(np.float32)
    x[n // 2 :, :3] += 4
    return x


def dense(unit):
    """Eq. 4 as a matrix: D^-1 (S - I) + I."""
    similar = unit @ unit.T - np.eye(len(unit))
    return similar / similar.sum(axis=1, keepdims=True) + np.eye(len(unit))


def test_the_graph_is_the_papers_adjacency_without_being_written_out():
    unit = nonnegative(features())
    values = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    found = Graph(torch.from_numpy(unit)).spread(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found, dense(unit.astype(np.float64)) @ values, rtol=1e-4, atol=1e-5)


def test_features_with_negative_numbers_become_edges_that_are_never_negative():
    x = np.random.default_rng(2).normal(size=(20, 5)).astype(np.float32)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    edges = nonnegative(x) @ nonnegative(x).T
    np.testing.assert_allclose(edges, (1 + unit @ unit.T) / 2, atol=1e-6)
    np.testing.assert_allclose(nonnegative(np.abs(x)), np.abs(unit), atol=1e-6)


def test_the_network_is_two_graph_convolutions():
    unit = nonnegative(features())
    network = GraphNetwork(6).eval()
    graph = Graph(torch.from_numpy(unit))
    with torch.no_grad():
        found = network.logits(graph, graph.spread(torch.from_numpy(unit))).numpy()
        a = dense(unit.astype(np.float64))
        first, second = ((layer.weight.numpy().T, layer.bias.numpy()) for layer in (network.first, network.second))
    hidden = np.maximum(a @ unit @ first[0] + first[1], 0)
    np.testing.assert_allclose(found, (a @ hidden @ second[0] + second[1])[:, 0], rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_authors():
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0))
    scores = logits.sigmoid()
    expected = -scores[:4].log().mean() - UNLABELED_WEIGHT * (1 - scores[4:]).log().mean()
    torch.testing.assert_close(labeled_loss(logits, 4), expected)


def test_what_is_like_the_labeled_images_lies_near_them_after_training():
    x = features(80)
    found = np.asarray(graph_features(x, np.arange(20), seed=0, device=CPU), np.float32)
    assert found.shape == (80, 128)
    middle = found[:20].mean(axis=0)
    like, unlike = (np.linalg.norm(found[rows] - middle, axis=1).mean() for rows in (slice(20, 40), slice(40, 80)))
    assert unlike > 1.5 * like


def test_graph_features_are_repeated_by_their_seed_and_touch_no_global_state():
    state = torch.random.get_rng_state()
    first, again = (graph_features(features(), np.arange(5), seed=3, device=CPU) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_and_everything_labeled_give_finite_features():
    for labeled in (np.empty(0, np.int64), np.arange(40)):
        assert np.isfinite(graph_features(features(), labeled, seed=0, device=CPU)).all()
