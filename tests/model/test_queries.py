"""Each first query against a value worked out by hand."""

import numpy as np
import pytest

from model.querying.first_queries import FIRST_QUERIES
from model.querying.first_queries.clusters import kmeans, share
from model.querying.first_queries.scan import scan_clusters, scan_loss
from model.querying.outputs import Outputs
from model.querying.selection import Candidates


def rng(seed=0):
    return np.random.default_rng(seed)


def ask(name, k, candidates, seed=0):
    return FIRST_QUERIES[name].select(candidates, k, rng(seed)).indices.tolist()


def in_order(*indices, losses=None):
    size = max(indices) + 1
    return Candidates(np.array(indices), np.zeros(size) if losses is None else np.asarray(losses, np.float32))


def on_a_circle(*degrees, covered=(), classes=None):
    angles = np.deg2rad(np.array(degrees, float))
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    free = np.setdiff1d(np.arange(len(degrees)), covered)
    return Candidates(
        free,
        np.zeros(len(degrees)),
        Outputs(pretext_embeddings=features),
        covered=np.array(covered, np.int64),
        classes=classes,
    )


def test_first_queries_by_losses_say_so():
    by_losses = {name for name, query in FIRST_QUERIES.items() if query.by_losses}
    assert by_losses == {"even", "top", "binned", "binned_2", "binned_10"}


def test_even_takes_the_floor_of_even_positions():
    assert ask("even", 3, in_order(6, 5, 4, 3, 2, 1, 0)) == [6, 4, 2]  # positions 0, 2, 4 = floor(i * 7 / 3)


def test_even_of_the_papers_size_takes_every_fifth():
    assert ask("even", 1000, in_order(*range(5000))) == list(range(0, 5000, 5))


def test_top_takes_the_first_of_the_batch():
    assert ask("top", 2, in_order(3, 0, 2, 1)) == [3, 0]


def test_binned_takes_the_hardest_of_the_upper_bins_and_the_easiest_of_the_last():
    # Ten losses 9..0 at the indices 0..9, two bins: 0 1 2 3 4 | 9 8 7 6 5.
    candidates = in_order(*range(10), losses=range(9, -1, -1))
    assert sorted(ask("binned_2", 4, candidates)) == [0, 1, 8, 9]
    # Five bins of two: the harder of 0|1, 2|3, 4|5, 6|7 and the easier of 8|9.
    assert sorted(ask("binned", 5, candidates)) == [0, 2, 4, 6, 9]


def test_binned_does_not_depend_on_the_order_of_the_batch():
    losses = rng(1).random(30)
    up, down = in_order(*range(30), losses=losses), in_order(*range(29, -1, -1), losses=losses)
    assert ask("binned", 10, up) == ask("binned", 10, down)


def test_share_equal_gives_every_cluster_the_same():
    clusters = np.repeat([0, 1, 2], [50, 30, 20])
    assert np.bincount(clusters[share(clusters, 9, rng(), proportional=False)]).tolist() == [3, 3, 3]


def test_share_proportional_follows_the_sizes():
    clusters = np.repeat([0, 1, 2], [50, 30, 20])
    assert np.bincount(clusters[share(clusters, 10, rng(), proportional=True)]).tolist() == [5, 3, 2]


def test_share_of_an_exhausted_cluster_goes_to_the_others():
    clusters = np.repeat([0, 1], [2, 10])
    assert np.bincount(clusters[share(clusters, 8, rng(), proportional=False)]).tolist() == [2, 6]


def test_share_draws_inside_a_cluster():
    clusters = np.zeros(5, int)
    assert {int(share(clusters, 1, rng(seed), proportional=False)[0]) for seed in range(40)} == {0, 1, 2, 3, 4}


def test_kmeans_finds_separate_groups():
    x = np.repeat([[0.0, 0], [9, 0], [0, 9]], 20, axis=0) + rng().normal(0, 0.1, (60, 2))
    clusters = kmeans(x.astype(np.float32), 3, rng(3)).reshape(3, 20)
    assert (clusters == clusters[:, :1]).all()
    assert len(set(clusters[:, 0].tolist())) == 3


def test_kmeans_in_small_steps_finds_separate_groups():
    x = np.repeat([[0.0, 0], [9, 0]], 5_500, axis=0) + rng().normal(0, 0.1, (11_000, 2))
    clusters = kmeans(x.astype(np.float32), 2, rng(3)).reshape(2, 5_500)
    assert (clusters == clusters[:, :1]).all()
    assert clusters[0, 0] != clusters[1, 0]


def test_kmeans_query_asks_every_group_although_one_is_rare():
    candidates = on_a_circle(*[0, 1] * 20, 90, 91, 180, 181, classes=3)
    assert sorted({i if i >= 40 else 0 for i in ask("kmeans", 6, candidates)}) == [0, 40, 41, 42, 43]


def test_typical_asks_the_densest_image_of_each_group():
    # In each group the image at x5 degrees is nearest to its two neighbours. The larger group comes first.
    candidates = on_a_circle(120, 124, 125, 126, 0, 4, 5, 6, 10)
    assert ask("typical", 2, candidates) == [6, 2]


def test_typical_asks_first_where_nothing_is_covered():
    # Three groups of six; the first has a covered image, so that the others are asked.
    group = np.array([0, 1, 2, 3, 4, 5])
    candidates = on_a_circle(*group, *(group + 120), *(group + 240), covered=[2])
    assert sorted(i // 6 for i in ask("typical", 2, candidates)) == [1, 2]


def test_typical_of_a_large_batch_spreads_over_a_drawn_part_of_it(monkeypatch):
    monkeypatch.setattr("model.querying.first_queries.typical.SAMPLE", 60)
    sizes = []
    monkeypatch.setattr(
        "model.querying.first_queries.typical.kmeans", lambda x, *rest: sizes.append(len(x)) or kmeans(x, *rest)
    )
    groups = (np.arange(100)[:, None] / 50 + np.array([0, 90, 180, 270])).ravel()  # image i is of group i % 4
    candidates = on_a_circle(*groups, covered=[0])
    asked = ask("typical", 4, candidates)
    assert sorted(i % 4 for i in asked[:3]) == [1, 2, 3]
    assert ask("typical", 4, candidates, seed=1) != asked
    assert len(set(ask("typical", 50, candidates))) == 50
    assert sizes == [61, 61, 201]
    ask("typical", 4, on_a_circle(*groups, covered=range(100)))
    assert sizes[-1] == 60 + 60


def test_scan_finds_separate_groups():
    centres = np.eye(8)[:4] * 3
    x = np.repeat(centres, 50, axis=0) + rng().normal(0, 0.3, (200, 8))
    clusters = scan_clusters(x.astype(np.float32), 4, rng(1)).reshape(4, 50)
    assert (clusters == clusters[:, :1]).mean() > 0.98
    assert len(set(clusters[:, 0].tolist())) == 4


def test_scan_loss_gradient_equals_finite_differences():
    generator = rng(2)
    weights, anchors, partners = (generator.normal(size=shape) for shape in ((4, 3), (6, 4), (6, 4)))
    gradient = scan_loss(weights, anchors, partners)[1]
    for place in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[place] = 1e-6
        slope = (
            scan_loss(weights + step, anchors, partners)[0] - scan_loss(weights - step, anchors, partners)[0]
        ) / 2e-6
        assert gradient[place] == pytest.approx(slope, abs=1e-6)


def test_scan_loss_is_lowest_for_sure_balanced_and_consistent_pairs():
    x = np.eye(3) * 30  # three pairs, each in a cluster of its own with certainty: -log 1 - 5 log 3
    assert scan_loss(np.eye(3), x, x)[0] == pytest.approx(-5 * np.log(3), abs=1e-6)
