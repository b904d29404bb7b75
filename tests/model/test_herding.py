"""MaxHerding, and what it shares with uncertainty herding."""

import numpy as np
import pytest

from model.querying.first_queries import FIRST_QUERIES
from model.querying.herding import Herding
from model.querying.outputs import Outputs
from model.querying.plan import Pool, QuerySettings, extend_reserve, plan_round
from model.querying.selection import Candidates


def rng(seed=0):
    return np.random.default_rng(seed)


def candidates_of(features, *, free=None, covered=(), pool=None):
    size = len(features)
    return Candidates(
        indices=np.arange(size) if free is None else np.asarray(free),
        losses=np.full(size, np.nan, np.float32),
        outputs=Outputs(pretext_embeddings=np.asarray(features)),
        covered=np.asarray(covered, np.int64),
        pool=None if pool is None else np.asarray(pool),
    )


def ask(k, features, *, seed=0, **more):
    return FIRST_QUERIES["max_herding"].select(candidates_of(features, **more), k, rng(seed)).indices.tolist()


def on_a_circle(*degrees):
    angles = np.deg2rad(np.array(degrees, float))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("covered", [(), (5,), (0, 1, 2, 3)])
def test_max_herding_is_the_greedy_maximum_of_its_definition(covered):
    features = rng(3).normal(size=(150, 5))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    squared = ((unit[:, None] - unit[None]) ** 2).sum(axis=2)
    # Of 150 images, the nearest hundredth is two.
    width = np.median(np.sqrt(np.sort(squared, axis=1)[:, 2]))
    kernel = np.exp(-squared / width**2)
    free, picks = np.setdiff1d(np.arange(150), covered), list(covered)
    for _ in range(9):
        picks.append(max((i for i in free if i not in picks), key=lambda i: kernel[:, [*picks, i]].max(axis=1).sum()))
    assert ask(9, features, free=free, covered=covered, pool=np.arange(150)) == picks[len(covered) :]


def test_a_gain_is_divided_by_what_the_image_costs():
    # The first image stands for three, the second for one; then it does not pay where it costs four times as much.
    features = on_a_circle(0, 90, 1, 2)
    herding = Herding(candidates_of(features), "pretext_embeddings", 1, rng())
    weight, places = np.ones(4, np.float32), np.argsort(herding.drawn)
    cost = np.array([4.0, 1.0, 4.0, 4.0])[herding.drawn]
    assert herding.pick(1, 0.5, weight).tolist() != [1]
    assert herding.pick(1, 0.5, weight, cost).tolist() == [1]
    assert sorted(herding.pick(4, 0.5, weight, cost).tolist()) == sorted(herding.drawn[places].tolist())


def test_a_round_of_boxes_goes_by_images_or_by_the_objects_on_them():
    # The first image stands for two and has twenty objects, the last for itself and has one; all are as doubtful.
    boxes = np.full((3, 20, 6), -1, np.float32)
    boxes[:2, :, 4:], boxes[2, 0, 4:] = (0.5, 0), (0.5, 0)
    outputs = Outputs(boxes=boxes, embeddings=on_a_circle(0, 1, 90).astype(np.float16))
    pool = Pool(np.zeros(3, np.float32), None, np.ones(3, np.bool_))
    asked = {
        per: plan_round(
            1, pool, outputs, QuerySettings(batches=1, k=1, problem="detection", gain_per=per), rng()
        ).indices.tolist()
        for per in ("image", "object")
    }
    assert asked["image"] != [2]
    assert asked["object"] == [2]


def test_max_herding_covers_the_pool_although_only_a_batch_may_be_asked():
    # Most images that may be asked lie at 0, most of the pool lies at 90.
    features = on_a_circle(*np.linspace(0, 4, 10), 90, *np.linspace(88, 92, 40))
    batch = np.arange(11)
    assert ask(1, features, free=batch)[0] < 10
    assert ask(1, features, free=batch, pool=np.arange(51)) == [10]


def test_max_herding_keeps_off_what_is_covered():
    features = on_a_circle(*range(5), *range(120, 125), *range(240, 245))
    asked = ask(2, features, free=[0, 1, 3, 4, *range(5, 15)], covered=[2])
    assert sorted(i // 5 for i in asked) == [1, 2]


def test_max_herding_does_not_ask_a_copy_before_the_others():
    features = np.concatenate([np.repeat(on_a_circle(0), 30, axis=0), on_a_circle(*range(40, 320, 40))])
    asked = ask(9, features)
    assert len({0 if i < 30 else i for i in asked[:8]}) == 8
    assert asked[8] < 30


def test_max_herding_of_a_large_pool_asks_a_drawn_part_of_it(monkeypatch):
    monkeypatch.setattr("model.querying.herding.SAMPLE", 20)
    features = rng(5).normal(size=(500, 5))
    asked = [ask(30, features, seed=seed) for seed in (0, 0, 1)]
    assert len(set(asked[0])) == 30
    assert asked[0] == asked[1] != asked[2]


def test_max_herding_fills_up_at_random_beyond_what_may_be_picked(monkeypatch):
    monkeypatch.setattr("model.querying.herding.SAMPLE", 10)
    monkeypatch.setattr("model.querying.herding.MOST", 15)
    features = rng(5).normal(size=(60, 5))
    asked = [ask(40, features, seed=seed) for seed in (0, 0, 1)]
    assert len(set(asked[0])) == 40
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize("features", [[[1.0, 0.0]], [[1.0, 0.0]] * 6, [[0.0, 0.0]] * 4])
def test_widths_of_images_that_do_not_differ_are_one(features):
    herding = Herding(candidates_of(features, covered=range(len(features))), "pretext_embeddings", 2, rng())
    assert (herding.width_of_pool(), herding.width_of_labels()) == (1.0, 1.0)


# -- rounds without batches


def pool_without_batches(**more):
    features = rng(3).normal(size=(120, 5)).astype(np.float32)
    available = np.ones(120, bool)
    available[:20] = False
    return Pool(np.full(120, np.nan, np.float32), None, available, pretext_embeddings=features, **more)


def test_a_round_without_batches_asks_of_the_whole_pool_and_needs_no_losses():
    answered = np.arange(120) < 20
    pool = pool_without_batches(answered=answered)
    settings = QuerySettings(4, 15, holdout=5, reserve=10, first_query="max_herding")
    plan = plan_round(0, pool, None, settings, rng(1))
    query = plan.indices[~plan.holdout]
    expected = ask(15, pool.pretext_embeddings, free=np.arange(20, 120), covered=np.arange(20), pool=np.arange(120))
    assert query.tolist() == expected
    everything = np.concatenate([plan.indices, plan.reserve])
    assert len(set(everything.tolist())) == 30
    assert pool.available[everything].all()
    more = extend_reserve(0, pool, None, settings, rng(2), asked=everything, above=float(plan.reserve_scores[-1]))
    assert len(set(more.indices.tolist()) - set(everything.tolist())) == 10
    assert (more.scores > plan.reserve_scores[-1]).all()


@pytest.mark.parametrize("number", [1, 3, 9])
def test_a_later_round_without_batches_asks_by_the_sampler_over_all_that_is_left(number):
    pool = pool_without_batches()
    probs = rng(4).dirichlet(np.ones(3), 120).astype(np.float32)
    settings = QuerySettings(4, 15, sampler="margin")
    plan = plan_round(number, pool, Outputs(probs=probs), settings, rng(1))
    margin = np.diff(np.sort(probs, axis=1)[:, -2:])[:, 0]
    assert plan.indices.tolist() == (20 + np.argsort(margin[20:])[:15]).tolist()
