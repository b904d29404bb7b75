"""Each sampler against a value worked out by hand or by an independent implementation."""

import numpy as np
import pytest

from model.errors import BadInput
from model.querying.outputs import Outputs, pool_axis
from model.querying.samplers import SAMPLERS
from model.querying.samplers.entropy import entropy
from model.querying.samplers.weibull import fit_weibull
from model.querying.selection import Candidates


def rng(seed=0):
    return np.random.default_rng(seed)


def ask(name, k, indices=None, *, seed=0, covered=(), labels=None, **outputs):
    arrays = {key: np.asarray(value, np.float64) for key, value in outputs.items()}
    first, array = next(iter(arrays.items()))
    size = array.shape[pool_axis(first)]
    candidates = Candidates(
        indices=np.arange(size) if indices is None else np.asarray(indices),
        losses=np.zeros(size, np.float32),
        outputs=Outputs(**arrays),
        labels=None if labels is None else np.asarray(labels),
        covered=np.asarray(covered, np.int64),
    )
    return SAMPLERS[name].select(candidates, k, rng(seed)).indices.tolist()


THREE = [[0.5, 0.49, 0.01], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [0.45, 0.45, 0.1]]
# top-1 0.50 0.40 0.90 0.45; margin 0.01 0.10 0.85 0.00; entropy 0.742 1.089 0.394 0.949


def test_least_confidence_asks_the_lowest_top_posterior():
    assert ask("least_confidence", 3, probs=THREE) == [1, 3, 0]


def test_least_confidence_scores_are_the_posteriors():
    candidates = Candidates(np.arange(4), np.zeros(4), Outputs(probs=np.array(THREE)))
    assert SAMPLERS["least_confidence"].select(candidates, 3, rng()).scores.tolist() == [0.4, 0.45, 0.5]


def test_least_confidence_accepts_a_posterior_that_rounding_took_above_one():
    candidates = Candidates(np.arange(1), np.zeros(1), Outputs(probs=np.array([[1.0000001, 0]], np.float32)))
    assert SAMPLERS["least_confidence"].select(candidates, 1, rng()).scores[0] < 1


def test_margin_asks_the_two_closest_classes():
    assert ask("margin", 3, probs=THREE) == [3, 0, 1]


def test_margin_of_a_single_class_asks_by_index():
    assert ask("margin", 2, probs=[[1.0], [1.0], [1.0]]) == [0, 1]


def test_entropy_asks_the_most_spread_posterior():
    assert ask("entropy", 4, probs=THREE) == [1, 3, 0, 2]


def test_entropy_counts_zero_as_nothing():
    assert entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0.0, np.log(2)])


def test_a_diverged_model_is_refused():
    with pytest.raises(BadInput, match="1 of 2 images"):
        ask("entropy", 1, probs=[[np.nan, 1.0], [0.5, 0.5]])


def test_random_reaches_every_candidate_and_only_those():
    asked = {i for seed in range(50) for i in ask("random", 1, [1, 3, 4], seed=seed, probs=np.ones((6, 2)))}
    assert asked == {1, 3, 4}


def test_core_set_asks_the_farthest_from_what_is_covered():
    # On a line, 0 covered: the farthest is 10; then 4 (4 from 0, 6 from 10), then 8 (2 from 10, 4 from 4) over 1.
    line = [[0], [1], [4], [8], [10]]
    assert ask("core_set", 3, [1, 2, 3, 4], covered=[0], embeddings=line) == [4, 2, 3]


def test_core_set_equals_the_greedy_algorithm_on_all_pairs():
    x = rng(3).normal(size=(60, 5))
    covered, free = list(range(10)), list(range(10, 60))
    centres, expected = list(covered), []
    for _ in range(20):
        best = max(
            (i for i in free if i not in expected), key=lambda i: min(np.linalg.norm(x[i] - x[c]) for c in centres)
        )
        centres.append(best)
        expected.append(best)
    assert ask("core_set", 20, free, covered=covered, embeddings=x) == expected


def test_core_set_draws_its_first_centre_where_nothing_is_covered():
    firsts = {ask("core_set", 1, seed=seed, embeddings=[[0.0], [1.0], [2.0]])[0] for seed in range(30)}
    assert firsts == {0, 1, 2}


def test_badge_first_pick_is_the_largest_gradient():
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    embeddings = np.array([[9.0], [2.0], [2.0]])
    norms = [np.linalg.norm(np.outer(p - np.eye(2)[p.argmax()], h)) for p, h in zip(probs, embeddings, strict=True)]
    assert ask("badge", 1, probs=probs, embeddings=embeddings) == [int(np.argmax(norms))] == [2]


def test_badge_draws_by_squared_distance_of_the_gradients():
    generator = rng(1)
    probs, embeddings = generator.dirichlet(np.ones(3), 6), generator.normal(size=(6, 4))
    gradients = np.stack(
        [np.outer(p - np.eye(3)[p.argmax()], h).ravel() for p, h in zip(probs, embeddings, strict=True)]
    )
    first = int((gradients**2).sum(axis=1).argmax())
    weights = ((gradients - gradients[first]) ** 2).sum(axis=1)
    drawn = np.zeros(6)
    for seed in range(3000):
        one, two = ask("badge", 2, seed=seed, probs=probs, embeddings=embeddings)
        assert one == first
        drawn[two] += 1
    assert drawn / 3000 == pytest.approx(weights / weights.sum(), abs=0.03)


def test_class_balanced_fills_the_class_with_the_fewest_labels():
    # Guesses 0 0 0 1 1 2; labels given: two of class 1, one of class 2 -> 0, 0, 2, then (all at two) 0, 1, 1.
    probs = [[0.9, 0.1, 0], [0.5, 0.3, 0.2], [0.6, 0.4, 0], [0.1, 0.9, 0], [0.2, 0.8, 0], [0, 0, 1], *[[1, 0, 0]] * 3]
    labels = [-1] * 6 + [1, 1, 2]
    assert ask("class_balanced", 6, range(6), probs=probs, labels=labels) == [1, 2, 5, 0, 4, 3]


def test_class_balanced_counts_what_is_asked_already_by_its_guess():
    # Labels: one of class 0. Asked without a label: two guessed as class 1. So class 2, 0 (one each), then 2.
    probs = [[1, 0, 0], [0, 1, 0], [0, 0.9, 0.1], [0.8, 0.2, 0], [0, 1, 0], [0, 0.4, 0.6], [0, 0, 1]]
    labels = [0, *[-1] * 6]
    assert ask("class_balanced", 3, range(3, 7), covered=[0, 1, 2], probs=probs, labels=labels) == [5, 3, 6]


def test_bald_asks_the_highest_mutual_information_and_ties_by_index():
    assert ask("bald", 3, mutual_information=[0.0, 0.7, 0.0]) == [1, 0, 2]


def test_variation_ratio_counts_votes_then_confidence():
    votes = {
        0: [[0.9, 0.1, 0], [0.9, 0.1, 0], [0.9, 0.1, 0]],  # three agree
        1: [[0.6, 0.4, 0], [0.6, 0.4, 0], [0.0, 1.0, 0]],  # two agree, mean top 0.6
        2: [[1.0, 0.0, 0], [0.0, 1.0, 0], [0, 0, 1.0]],  # none agree
        3: [[0.5, 0.5, 0], [0.9, 0.1, 0], [0.1, 0.9, 0]],  # two agree, mean top 0.5
    }
    assert ask("variation_ratio", 4, ensemble_probs=np.stack([votes[i] for i in range(4)], axis=1)) == [2, 3, 1, 0]


def test_weibull_asks_the_outliers_of_the_nearest_class():
    # Class 0 around 0 with spread 1, class 1 around 100 with spread 10: 4 off 0 is further out than 12 off 100.
    latents = [[-1.0], [1.2], [-0.8], [0.6], [90.0], [110.0], [92.0], [108.0], [0.5], [4.0], [112.0], [101.0]]
    labels = [0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1]
    probs = np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1]]
    asked = ask("weibull", 4, range(8, 12), probs=probs, embeddings=latents, labels=labels)
    assert asked[:2] == [9, 10]
    assert asked == _weibull_oracle(np.array(latents), np.array(labels), range(8, 12))


def _weibull_oracle(latents, labels, free):
    stats = pytest.importorskip("scipy.stats")
    outlier = {}
    for i in free:
        by_class = {}
        for c in (0, 1):
            group = latents[labels == c]
            distances = np.linalg.norm(group - group.mean(axis=0), axis=1)
            shape, _, scale = stats.weibull_min.fit(distances, floc=0)
            distance = np.linalg.norm(latents[i] - group.mean(axis=0))
            by_class[distance] = stats.weibull_min.logsf(distance, shape, scale=scale)
        outlier[i] = by_class[min(by_class)]
    return sorted(outlier, key=outlier.get)


def test_weibull_leaves_out_labeled_images_that_the_model_gets_wrong():
    # The wrong one at 50 would pull the mean of class 0 away from 0 and make 0 the outlier.
    latents = [[-1.0], [1.0], [-0.5], [50.0], [0.0], [20.0]]
    probs = np.eye(2)[[0, 0, 0, 1, 0, 0]]
    assert ask("weibull", 2, [4, 5], probs=probs, embeddings=latents, labels=[0, 0, 0, 0, -1, -1]) == [5, 4]


def test_weibull_needs_the_labels():
    with pytest.raises(BadInput, match="labels given so far"):
        ask("weibull", 1, probs=[[1.0, 0.0]], embeddings=[[0.0]])


def test_fit_weibull_equals_scipys_maximum_likelihood():
    stats = pytest.importorskip("scipy.stats")
    values = stats.weibull_min.rvs(2.5, scale=7.0, size=200, random_state=rng(0))
    shape, _, scale = stats.weibull_min.fit(values, floc=0)
    assert fit_weibull(values) == pytest.approx((shape, scale), rel=1e-3)


@pytest.mark.parametrize("shape", [0.3, 1.0, 30.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_fit_weibull_equals_scipys_for_few_values_of_any_size(shape, scale):
    stats = pytest.importorskip("scipy.stats")
    values = stats.weibull_min.rvs(shape, scale=scale, size=6, random_state=rng(1))
    expected, _, width = stats.weibull_min.fit(values, floc=0)
    assert fit_weibull(values) == pytest.approx((expected, width), rel=1e-3)


def test_fit_weibull_of_values_of_very_different_sizes_is_finite():
    assert np.isfinite(fit_weibull(np.array([1e-300, 1e-150, 1.0]))).all()


def test_fit_weibull_of_too_few_values_is_no_fit():
    assert fit_weibull(np.array([0.0, 2.0, 2.0])) is None
    assert fit_weibull(np.array([1.0, 2.0])) is None
    assert fit_weibull(np.array([2.0, np.nextafter(np.float32(2), np.float32(3)), 2.0])) is None, (
        "rounding is no spread"
    )
    assert fit_weibull(np.array([])) is None


@pytest.mark.parametrize("covered", [(), (0,), (0, 1, 2, 3)])
def test_uncertainty_herding_is_the_greedy_maximum_of_its_definition(covered):
    generator = rng(3)
    probs, embeddings = generator.dirichlet(np.ones(4), 60), generator.normal(size=(60, 5))
    free = np.arange(4, 60)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    squared = ((unit[:, None] - unit[None]) ** 2).sum(axis=2)
    picks, width = list(covered), 1.0
    if len(covered) > 1:
        labeled = squared[np.ix_(covered, covered)] + np.diag(np.full(len(covered), np.inf))
        width = np.median(np.sqrt(labeled.min(axis=1)))
    kernel = np.exp(-squared / width**2)
    doubt = 1 - np.diff(np.sort(probs, axis=1)[:, -2:])[:, 0]

    def value(chosen):
        return (doubt * kernel[:, chosen].max(axis=1))[free].sum()

    for _ in range(8):
        picks.append(max((i for i in free if i not in picks), key=lambda i: value([*picks, i])))
    asked = ask("uncertainty_herding", 8, free, covered=covered, probs=probs, embeddings=embeddings)
    assert asked == picks[len(covered) :]


def test_uncertainty_herding_of_a_large_pool_asks_a_drawn_part_of_it(monkeypatch):
    monkeypatch.setattr("model.querying.herding.SAMPLE", 20)
    generator = rng(5)
    arrays = {"probs": generator.dirichlet(np.ones(4), 500), "embeddings": generator.normal(size=(500, 5))}
    asked = [ask("uncertainty_herding", 30, seed=seed, **arrays) for seed in (0, 0, 1)]
    assert len(set(asked[0])) == 30
    assert asked[0] == asked[1] != asked[2]
