"""Each sampler against a value worked out by hand or by an independent implementation."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import entropy as kl
from torch.nn import functional

from model.errors import BadInput
from model.problems.single_label import entropies
from model.querying.outputs import Outputs, pool_axis
from model.querying.samplers import SAMPLERS, batch_bald
from model.querying.samplers.learning_loss import SUBSET
from model.querying.samplers.pal import divergence_of_even
from model.querying.samplers.released_confidence import released_confidence
from model.querying.samplers.weibull import distances_left_out, fit_weibull
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


def test_released_confidence_is_that_of_the_released_code():
    torch = pytest.importorskip("torch")
    logits = rng(3).normal(size=(40, 10)) * rng(4).uniform(0.1, 9, size=(40, 1))
    outputs = torch.from_numpy(logits)
    # main.py, get_plabels2: F.normalize(outputs, dim=1), then the softmax of the predicted class.
    scaled = torch.nn.functional.softmax(torch.nn.functional.normalize(outputs, dim=1), dim=1)
    top = scaled[torch.arange(40), outputs.argmax(dim=1)].numpy()
    assert released_confidence(logits) == pytest.approx(top)
    assert ask("released_confidence", 12, logits=logits) == np.argsort(top)[:12].tolist()


def test_margin_asks_the_two_closest_classes():
    assert ask("margin", 3, probs=THREE) == [3, 0, 1]


def test_margin_of_a_single_class_asks_by_index():
    assert ask("margin", 2, probs=[[1.0], [1.0], [1.0]]) == [0, 1]


def test_entropy_asks_the_most_spread_posterior():
    assert ask("entropy", 4, probs=THREE) == [1, 3, 0, 2]


def test_entropy_counts_zero_as_nothing():
    assert entropies(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0.0, np.log(2)])


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


def test_mc_entropy_asks_the_most_spread_mean_and_ties_by_index():
    assert ask("mc_entropy", 3, dropout_entropy=[0.1, 0.7, 0.1]) == [1, 0, 2]


@pytest.mark.parametrize(
    ("name", "single"),
    [("ens_least_confidence", "least_confidence"), ("ens_margin", "margin"), ("ens_entropy", "entropy")],
)
def test_an_ensemble_is_asked_by_its_mean_posterior(name, single):
    passes = rng(5).dirichlet(np.ones(4), (3, 30))
    assert ask(name, 30, ensemble_probs=passes) == ask(single, 30, probs=passes.mean(axis=0))
    assert ask(name, 30, ensemble_probs=passes) != ask(single, 30, probs=passes[0])


@pytest.mark.parametrize(("name", "need"), [("learning_loss", "predicted_losses"),
                                            ("learning_loss_detached", "detached_losses")])  # fmt: skip
def test_learning_loss_asks_the_highest_of_a_drawn_part_of_a_large_pool(name, need):
    assert ask(name, 2, **{need: [0.1, 3.0, 2.0]}) == [1, 2]
    rising = np.arange(2.0 * SUBSET)
    asked = ask(name, 1000, **{need: rising})
    assert asked == sorted(asked, reverse=True)
    assert 2 * SUBSET - 1000 - asked[-1] == pytest.approx(1000, abs=150)  # every second of the highest was drawn
    assert asked != ask(name, 1000, seed=1, **{need: rising})
    assert len(ask(name, SUBSET + 5, **{need: rising})) == SUBSET + 5


def test_variation_ratio_counts_votes_then_confidence():
    votes = {
        0: [[0.9, 0.1, 0], [0.9, 0.1, 0], [0.9, 0.1, 0]],  # three agree
        1: [[0.6, 0.4, 0], [0.6, 0.4, 0], [0.0, 1.0, 0]],  # two agree, mean top 0.6
        2: [[1.0, 0.0, 0], [0.0, 1.0, 0], [0, 0, 1.0]],  # none agree
        3: [[0.5, 0.5, 0], [0.9, 0.1, 0], [0.1, 0.9, 0]],  # two agree, mean top 0.5
    }
    assert ask("variation_ratio", 4, ensemble_probs=np.stack([votes[i] for i in range(4)], axis=1)) == [2, 3, 1, 0]


@pytest.mark.parametrize("each", [4, 80])
def test_weibull_asks_the_outliers_of_the_nearest_class(each):
    """By a fit of all classes while they have few labels, by their own from 60 on, where class 1 is ten times wider."""
    generator = rng(each)
    spread = np.where(np.arange(2 * each + 40) % 2, 1.0 if each == 4 else 10.0, 1.0)
    centres = np.where(np.arange(2 * each + 40) % 2, 1000.0, 0.0)
    latents = np.stack([centres, centres], axis=1) + spread[:, None] * generator.normal(size=(len(spread), 2))
    labels = np.where(np.arange(len(spread)) < 2 * each, np.arange(len(spread)) % 2, -1)
    probs, free = np.eye(2)[np.arange(len(spread)) % 2], range(2 * each, len(spread))
    asked = ask("weibull", 40, free, probs=probs, embeddings=latents, labels=labels)
    assert asked == _weibull_oracle(latents, labels, free, shared=each == 4)


def _weibull_oracle(latents, labels, free, *, shared):
    """The log probability of an image to lie farther out, lowest first; each distance to the mean of the others."""
    stats = pytest.importorskip("scipy.stats")
    groups = [latents[labels == c] for c in (0, 1)]
    left_out = [
        [np.linalg.norm(x - np.delete(group, i, axis=0).mean(axis=0)) for i, x in enumerate(group)] for group in groups
    ]
    fitted = [np.concatenate(left_out)] * 2 if shared else left_out
    fits = [stats.weibull_min.fit(distances, floc=0) for distances in fitted]
    outlier = {}
    for i in free:
        far, c = min((np.linalg.norm(latents[i] - group.mean(axis=0)), c) for c, group in enumerate(groups))
        outlier[i] = stats.weibull_min.logsf(far, fits[c][0], scale=fits[c][2])
    return sorted(outlier, key=outlier.get)


@pytest.mark.parametrize("each", [3, 6, 12, 60])
def test_weibull_spreads_its_query_over_classes_that_are_alike(each):
    """Ten equal classes: by chance, the two luckiest have 32% of 60 draws. A fit for each class of 3 gave them 98%."""
    shares = []
    for seed in range(5):
        generator = rng(seed)
        classes = np.concatenate([np.repeat(np.arange(10), each), generator.integers(10, size=1000)])
        latents = 3 * generator.normal(size=(10, 256))[classes] + generator.normal(size=(len(classes), 256))
        labels = np.where(np.arange(len(classes)) < 10 * each, classes, -1)
        free = range(10 * each, len(classes))
        asked = ask("weibull", 60, free, probs=np.eye(10)[classes], embeddings=latents, labels=labels)
        shares.append(np.sort(np.bincount(classes[asked], minlength=10))[-2:].sum() / 60)
    assert np.mean(shares) < 0.5


def test_distances_left_out_are_those_to_the_mean_of_the_others():
    group = rng(2).normal(size=(7, 3))
    expected = [np.linalg.norm(group[i] - np.delete(group, i, axis=0).mean(axis=0)) for i in range(7)]
    assert distances_left_out(group) == pytest.approx(expected)
    assert len(distances_left_out(group[:1])) == 0


def test_weibull_leaves_out_labeled_images_that_the_model_gets_wrong():
    # The wrong one at 50 would pull the mean of class 0 away from 0 and make 0 the outlier.
    latents = [[-1.0], [1.0], [-0.5], [50.0], [0.0], [20.0]]
    probs = np.eye(2)[[0, 0, 0, 1, 0, 0]]
    assert ask("weibull", 2, [4, 5], probs=probs, embeddings=latents, labels=[0, 0, 0, 0, -1, -1]) == [5, 4]


def test_dal_osr_asks_the_highest_outlier_probability_of_the_guessed_class():
    """The order of libMR's w_score: a Weibull of the 5% largest cosine distances, moved to begin at 1."""
    stats = pytest.importorskip("scipy.stats")
    generator = rng(11)
    guesses = np.concatenate([np.repeat([0, 1], 100), generator.integers(2, size=60)])
    x = np.where(guesses[:, None] == 0, [6.0, 0, 0], [0, 6.0, 0]) + generator.normal(size=(260, 3))
    labels = np.where(np.arange(260) < 200, guesses, -1)
    labels[:4] = 1  # which the model gets wrong: they are left out
    probs = np.eye(2)[guesses]
    score = np.empty(60)
    for c in (0, 1):
        members = (guesses == c) & (labels == c)
        mean = x[members].mean(axis=0)
        distance = 1 - x @ mean / np.linalg.norm(x, axis=1) / np.linalg.norm(mean)
        tail = np.sort(distance[members])[-round(0.05 * members.sum()) :]
        shape, _, scale = stats.weibull_min.fit(tail - tail[0] + 1, floc=0)
        mine = guesses[200:] == c
        score[mine] = stats.weibull_min.logsf(np.maximum(distance[200:][mine] - tail[0] + 1, 0), shape, scale=scale)
    expected = np.lexsort((np.arange(60), score)) + 200
    assert ask("dal_osr", 60, range(200, 260), probs=probs, embeddings=x, labels=labels)[:20] == expected[:20].tolist()


def test_dal_osr_asks_first_what_is_guessed_to_be_of_a_class_without_a_mean():
    latents = [[1.0, 0], [1.0, 0.1], [1.0, -0.1], [1.0, 0.05], [1.0, 0.3], [0.2, 1.0], [1.0, 0.0]]
    probs = np.eye(3)[[0, 0, 0, 0, 0, 2, 0]]
    asked = ask("dal_osr", 3, [4, 5, 6], probs=probs, embeddings=latents, labels=[0, 0, 0, 0, -1, -1, -1])
    assert asked == [5, 4, 6]


def _joint_information(passes, rows):
    """The mutual information of these rows' answers and the pass, by all configurations of classes."""
    c = passes.shape[2]
    joint = 0.0
    for classes in product(range(c), repeat=len(rows)):
        p = np.prod([passes[row, :, k] for row, k in zip(rows, classes, strict=True)], axis=0).mean()
        joint -= p * np.log(p)
    return joint - sum(-(passes[row] * np.log(passes[row])).sum(axis=1).mean() for row in rows)


def test_batch_bald_asks_what_adds_most_to_the_joint_mutual_information():
    passes = rng(7).dirichlet(np.full(3, 0.3), (6, 5)) * 0.97 + 0.01  # (n, T, C)
    passes[1] = passes[0]  # a copy adds nothing that its twin has not told
    picks = []
    for _ in range(5):
        rest = [row for row in range(6) if row not in picks]
        picks.append(max(rest, key=lambda row: _joint_information(passes, [*picks, row])))
    assert ask("batch_bald", 5, dropout_probs=passes.transpose(1, 0, 2)) == picks


def test_batch_bald_estimates_the_joint_entropy_of_many_configurations(monkeypatch):
    passes = rng(8).dirichlet(np.full(3, 0.5), (8, 6))
    joint, weights = np.ones((1, 6)), np.ones(1)
    exact = np.ones((1, 6))
    monkeypatch.setattr(batch_bald, "CONFIGURATIONS", 3**4)
    estimates = []
    for row in range(5):  # 3 ** 5 configurations are three times as many as are followed
        joint, weights = batch_bald._extended(joint, weights, passes[row], rng(row))
        exact = (exact[:, None, :] * passes[row].T[None]).reshape(-1, 6)
    for seed in range(200):
        drawn = batch_bald._extended(exact, np.ones(len(exact)), passes[5], rng(seed))
        assert len(drawn[0]) == 3**4
        estimates.append(batch_bald.joint_entropies(passes[6:], *drawn))
    full = (exact[:, None, :] * passes[5].T[None]).reshape(-1, 6)
    expected = batch_bald.joint_entropies(passes[6:], full, np.ones(len(full)))
    assert np.mean(estimates, axis=0) == pytest.approx(expected, rel=0.03)
    assert weights.sum() * joint.mean() == pytest.approx(1 / len(joint) * weights.sum() * joint.sum() / 6, rel=1e-6)


def test_core_gcn_is_k_center_on_the_graphs_features():
    x = rng(3).normal(size=(30, 4))
    chosen = {"covered": [0, 1], "indices": range(2, 30)}
    assert ask("core_gcn", 9, graph_features=x, **chosen) == ask("core_set", 9, embeddings=x, **chosen)


def test_ta_vaal_asks_what_looks_least_labeled():
    assert ask("ta_vaal", 2, task_aware_probability=[0.4, 0.1, 0.3]) == [1, 2]


def _pal_oracle(turned, probs, known, free, k):
    """The score image by image as the authors' code has it, and a head that torch trains and refines."""
    mean = turned[known].mean(dim=(0, 1))
    spread = (turned[known] - mean).square().sum(dim=2).mean().sqrt()
    x = torch.cat([(turned - mean) / spread, torch.ones(*turned.shape[:2], 1).double()], dim=2)
    truth = torch.arange(4)

    def loss(weights, rows):
        return functional.cross_entropy((x[rows] @ weights).flatten(0, 1), truth.repeat(len(rows)))

    def right(weights, image):
        return sum(float((x[image, turn] @ weights).softmax(dim=0)[turn]) for turn in range(4))

    weights = torch.zeros(x.shape[2], 4).double().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        total = loss(weights, known) + 5e-4 / 2 * weights.square().sum()
        total.backward()
        return total

    optimizer.step(closure)
    weights = weights.detach()
    even = torch.full((probs.shape[1],), 1 / probs.shape[1]).double()
    first = {image: -right(weights, image) - float((even * torch.log2(even / probs[image])).sum()) for image in free}
    asked, scores = [], dict(first)
    while len(asked) < k:
        left = [image for image in free if image not in asked]
        asked += sorted(left, key=lambda image: -scores[image])[: -(-k // 5)]
        own = weights
        rate = 2 / float(x[asked].square().sum(dim=2).mean())
        for _ in range(5):
            own.requires_grad_()
            own = (own - rate * torch.autograd.grad(loss(own, asked), own)[0]).detach()
        scores = {image: first[image] - right(own, image) for image in free}
    return asked


@pytest.mark.parametrize("k", [1, 5, 10])
def test_pal_asks_by_turns_that_are_told_wrong_and_doubt_and_learns_turns_in_between(k):
    each = rng(5)
    centres = each.normal(size=(4, 6))
    turned = centres + each.normal(0, 1.0, (60, 4, 6))
    probs, known, free = each.dirichlet(np.ones(3), 60), np.arange(20), list(range(20, 60))
    labels = np.where(np.arange(60) < 20, 0, -1)
    expected = _pal_oracle(torch.from_numpy(turned), torch.from_numpy(probs), known, free, k)
    assert ask("pal", k, free, turned_embeddings=turned, probs=probs, labels=labels) == expected


def test_pal_leaves_images_whose_way_up_it_has_just_learned():
    turned, wrong = np.zeros((40, 4, 12)), np.roll(np.eye(4), 1, axis=1)
    turned[:20, :, :4] = np.eye(4)
    turned[20:30, :, :4], turned[20:30, :, 4:8] = 0.3 * wrong, np.eye(4)  # told worst by the labeled images
    turned[30:, :, :4], turned[30:, :, 8:] = 0.2 * wrong, np.eye(4)
    probs = np.full((40, 2), 0.5)
    labels = np.where(np.arange(40) < 20, 0, -1)
    asked = ask("pal", 10, range(20, 40), turned_embeddings=turned, probs=probs, labels=labels)
    assert [image < 30 for image in asked[:4]] == [True, True, False, False]


def test_divergence_of_even_is_scipys_in_bits():
    probs = rng().dirichlet(np.ones(4), 9)
    np.testing.assert_allclose(divergence_of_even(probs), [kl(np.full(4, 0.25), row, base=2) for row in probs])
    assert divergence_of_even(np.array([[0.5, 0.5]])).tolist() == [0.0]
    assert np.isfinite(divergence_of_even(np.array([[1.0, 0.0]]))).all()


def test_waal_asks_by_the_bound_of_the_loss_and_the_critic():
    """Its authors' query: the mean of the l1 and l2 norms of the log posteriors, minus ten times the critic."""
    torch = pytest.importorskip("torch")
    probs, critic = rng(1).dirichlet(np.ones(4), 20), rng(2).random(20)
    logs = torch.log(torch.from_numpy(probs))
    uncertain = 0.5 * torch.norm(logs, dim=1) + 0.5 * torch.sum(-logs, dim=1)
    expected = (uncertain - 10 * torch.from_numpy(critic)).sort()[1]
    assert ask("waal", 20, probs=probs, critic=critic) == expected.tolist()


@pytest.mark.parametrize(("name", "expected"), [("highest_loss", [3, 1, 0, 2]), ("lowest_loss", [0, 1, 3, 2])])
def test_the_pretext_loss_alone_orders_the_images_and_leaves_those_without_one_to_the_end(name, expected):
    losses = np.array([0.1, 2.0, np.nan, 3.0], np.float32)
    query = SAMPLERS[name].select(Candidates(np.arange(4), losses), 4, rng())
    assert query.indices.tolist() == expected


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
