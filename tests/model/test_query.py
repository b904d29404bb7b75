import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import BadInput, UnknownName
from model.querying.batches import BATCH_ORDERS, split
from model.querying.outputs import Outputs
from model.querying.plan import Pool, QuerySettings, extend_reserve, plan_round

# What can be worked out by hand. What asks by features is in the contract of all strategies.
plainly = partial(QuerySettings, first_query="even", sampler="least_confidence")


def rng(seed=0):
    return np.random.default_rng(seed)


def pool_of(losses, batches, order="high_first", taken=()):
    losses = np.asarray(losses, np.float32)
    available = np.ones(len(losses), bool)
    available[list(taken)] = False
    return Pool(losses, split(losses, batches, order), available)


def outputs_with_top(top):
    """Three classes; the most likely one, in turn each of the three, has the posterior given."""
    top = np.asarray(top, np.float64)
    probs = np.repeat(((1 - top) / 2)[:, None], 3, axis=1)
    probs[np.arange(len(top)), np.arange(len(top)) % 3] = top
    return Outputs(probs=probs)


@st.composite
def rounds(draw):
    size = draw(st.integers(1, 80))
    generator = rng(draw(st.integers(0, 99)))
    order = draw(st.sampled_from(sorted(BATCH_ORDERS)))
    batches = draw(st.integers(1, 6))
    losses = generator.random(size, np.float32).round(draw(st.integers(0, 3)))
    available = generator.random(size) < draw(st.sampled_from([0.1, 0.5, 1.0]))
    ask = plainly(
        batches,
        k=draw(st.integers(1, 30)),
        holdout=draw(st.integers(0, 8)),
        reserve=draw(st.integers(0, 20)),
        first_query=draw(st.sampled_from(["even", "top", "random"])),
        sampler=draw(st.sampled_from(["random", "least_confidence", "margin", "entropy"])),
        order=order,
    )
    probs = generator.dirichlet(np.ones(4) * draw(st.sampled_from([0.01, 1.0])), size).astype(np.float32)
    outputs = draw(st.sampled_from([None, Outputs(probs=probs)]))
    return draw(st.integers(0, 8)), Pool(losses, split(losses, batches, order), available), outputs, ask


@settings(max_examples=300, deadline=None)
@given(rounds(), st.integers(0, 9))
def test_plan_round_parts_never_overlap_and_are_as_large_as_the_pool_allows(case, seed):
    number, pool, outputs, ask = case
    plan = plan_round(number, pool, outputs, ask, rng(seed))
    everything = np.concatenate([plan.indices, plan.reserve])
    free = int(pool.available.sum())
    assert len(set(everything.tolist())) == len(everything)
    assert pool.available[everything].all()
    assert (~plan.holdout).sum() == min(ask.k, free)
    assert plan.holdout.sum() == min(ask.holdout, max(free - ask.k, 0))
    assert len(plan.reserve) == min(ask.reserve, free - len(plan.indices))
    scores = np.concatenate([plan.scores, plan.reserve_scores])
    assert (np.diff(scores) > 0).all()
    assert ((scores >= 0) & (scores < 1)).all()
    assert plan.indices.dtype == plan.reserve.dtype == np.int64


@settings(max_examples=50, deadline=None)
@given(rounds())
def test_plan_round_is_repeated_by_the_same_seed(case):
    number, pool, outputs, ask = case
    first, again = (plan_round(number, pool, outputs, ask, rng(3)) for _ in range(2))
    for name in ("indices", "scores", "holdout", "reserve", "reserve_scores"):
        assert np.array_equal(getattr(first, name), getattr(again, name))


def test_round_zero_asks_batch_zero_at_even_intervals():
    pool = pool_of(np.arange(20), 2)  # batch 0 in order: 19, 18, ..., 10
    plan = plan_round(0, pool, None, plainly(2, k=4, order="high_first"), rng())
    assert plan.indices.tolist() == [19, 17, 14, 12]  # positions floor(i * 10 / 4) = 0, 2, 5, 7
    assert plan.scores.tolist() == [0.0, 0.25, 0.5, 0.75]


def test_round_zero_reserve_continues_at_even_intervals_of_what_is_left():
    pool = pool_of(np.arange(20), 2)
    plan = plan_round(0, pool, None, plainly(2, k=4, reserve=3, order="high_first"), rng())
    assert plan.indices.tolist() == [19, 17, 14, 12]
    assert plan.reserve.tolist() == [18, 15, 11]  # of 18 16 15 13 11 10 the positions 0, 2, 4


def test_a_round_without_a_model_is_asked_by_the_first_query():
    pool = pool_of(np.arange(20), 2, taken=[19])
    plan = plan_round(1, pool, None, plainly(2, k=2, first_query="top", order="high_first"), rng())
    assert plan.indices.tolist() == [18, 17]


def test_round_i_asks_exactly_the_least_confident_of_batch_i():
    generator = rng(5)
    pool = pool_of(generator.random(300), 3, taken=range(0, 300, 7))
    top = generator.uniform(0.34, 1.0, 300)
    plan = plan_round(1, pool, outputs_with_top(top), plainly(3, k=20, reserve=5, order="high_first"), rng())
    members = [i for i in range(300) if pool.batch_of[i] == 1 and pool.available[i]]
    expected = sorted(members, key=lambda i: (top[i], i))
    assert plan.indices.tolist() == expected[:20]
    assert plan.reserve.tolist() == expected[20:25]
    assert plan.scores.tolist() == top[expected[:20]].tolist()
    assert plan.reserve_scores.tolist() == top[expected[20:25]].tolist()


def test_least_confidence_ties_go_by_pool_index_and_differ_by_one_float_step():
    pool = pool_of(np.arange(6), 1)
    plan = plan_round(0 + 1, pool, outputs_with_top([0.5] * 6), plainly(1, k=3), rng())
    assert plan.indices.tolist() == [0, 1, 2]
    step = np.nextafter(0.5, 1)
    assert plan.scores.tolist() == [0.5, step, np.nextafter(step, 1)]


def test_a_saturated_model_still_gives_distinct_scores_below_one():
    pool = pool_of(np.arange(50), 1)
    plan = plan_round(1, pool, outputs_with_top([1.0] * 50), plainly(1, k=30, holdout=5, reserve=10), rng())
    scores = np.concatenate([plan.scores, plan.reserve_scores])
    assert (np.diff(scores) > 0).all()
    assert scores[-1] < 1


def test_a_round_after_the_last_batch_asks_over_the_whole_pool():
    pool = pool_of([4, 3, 2, 1], 2)
    plan = plan_round(2, pool, outputs_with_top([0.9, 0.5, 0.8, 0.4]), plainly(2, k=2), rng())
    assert plan.indices.tolist() == [3, 1]


def test_a_pool_without_batches_is_asked_whole_in_every_round():
    pool = pool_of([4, 3, 2, 1], 3, order="none")
    ask = plainly(3, k=2, order="none")
    assert plan_round(0, pool, None, ask, rng()).indices.tolist() == [0, 2]
    assert plan_round(1, pool, outputs_with_top([0.9, 0.5, 0.8, 0.4]), ask, rng()).indices.tolist() == [3, 1]


def test_images_answered_without_a_label_are_kept_off_like_labeled_ones():
    """On a line: 0 is labeled, 10 was skipped. The farthest from both is 5, and from the label alone 9."""
    line = np.array([[0.0], [10.0], [9.0], [5.0], [1.0]])
    labels, available = np.array([0, -1, -1, -1, -1]), np.array([False, False, True, True, True])
    arguments = np.zeros(5, np.float32), np.zeros(5, np.int64), available, labels, None
    outputs, ask = Outputs(embeddings=line), plainly(1, k=1, sampler="core_set", order="none")
    answered = np.array([True, True, False, False, False])
    asked = [
        plan_round(1, pool, outputs, ask, rng()).indices.tolist()
        for pool in (Pool(*arguments, answered), Pool(*arguments))
    ]
    assert asked == [[3], [2]]


def test_class_balanced_keeps_its_quotas_from_batch_to_batch_and_into_the_reserve():
    """Batch 1 holds two images guessed as class 0: what follows from batch 0 is of class 1 until they are level."""
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.7, 0.3]])
    batch_of = np.array([1, 1, 0, 0, 0, 0])
    pool = Pool(np.zeros(6, np.float32), batch_of, np.ones(6, bool), np.full(6, -1))
    ask = plainly(2, k=3, reserve=1, sampler="class_balanced")
    plan = plan_round(1, pool, Outputs(probs=probs), ask, rng())
    assert (plan.indices.tolist(), plan.reserve.tolist()) == ([0, 1, 3], [4])


def test_a_short_batch_is_filled_from_the_following_then_the_earlier_ones():
    # Batches of two: 0 -> {0, 1}, 1 -> {2, 3}, 2 -> {4, 5}. Round 1 has one image left.
    pool = pool_of([9, 8, 7, 6, 5, 4], 3, taken=[2])
    ask = plainly(3, k=4, reserve=1, first_query="even", sampler="margin", order="high_first")
    plan = plan_round(1, pool, outputs_with_top([0.41, 0.5, 0.9, 0.9, 0.8, 0.7]), ask, rng())
    assert plan.indices.tolist() == [3, 5, 4, 0]
    assert plan.reserve.tolist() == [1]


def test_a_filled_up_least_confidence_query_serves_the_lowest_posterior_first():
    pool = pool_of([9, 8, 7, 6, 5, 4], 3, taken=[2])
    ask = plainly(3, k=3, reserve=2, order="high_first")
    plan = plan_round(1, pool, outputs_with_top([0.41, 0.5, 0.9, 0.9, 0.8, 0.7]), ask, rng())
    assert plan.indices.tolist() == [5, 4, 3]
    assert plan.scores.tolist() == [0.7, 0.8, 0.9]
    assert plan.reserve.tolist() == [0, 1]
    assert plan.reserve_scores[0] > 0.9


def test_round_zero_fills_up_from_the_next_batch():
    pool = pool_of([9, 8, 7, 6], 2, taken=[0])
    plan = plan_round(0, pool, None, plainly(2, k=2, first_query="top", order="high_first"), rng())
    assert plan.indices.tolist() == [1, 2]


def test_holdout_leaves_the_query_as_it_would_be_without_it():
    generator = rng(2)
    pool = pool_of(generator.random(200), 4)
    outputs = outputs_with_top(generator.uniform(0.4, 1, 200))
    bare = plan_round(2, pool, outputs, plainly(4, k=20), rng())
    mixed = plan_round(2, pool, outputs, plainly(4, k=20, holdout=6), rng())
    assert mixed.indices[~mixed.holdout].tolist() == bare.indices.tolist()
    assert mixed.scores[~mixed.holdout].tolist() == bare.scores.tolist()


def test_holdout_is_drawn_from_all_batches_and_lies_anywhere_in_the_queue():
    pool = pool_of(np.arange(100), 4)
    batches, places = set(), set()
    for seed in range(40):
        plan = plan_round(0, pool, None, plainly(4, k=5, holdout=2, order="high_first"), rng(seed))
        batches |= set(pool.batch_of[plan.indices[plan.holdout]].tolist())
        places |= set(np.flatnonzero(plan.holdout).tolist())
    assert batches == {0, 1, 2, 3}
    assert places == set(range(7))


def test_extend_reserve_goes_on_where_the_reserve_ends():
    generator = rng(5)
    pool = pool_of(generator.random(300), 3)
    outputs = outputs_with_top(generator.uniform(0.34, 1.0, 300))
    ask, long = (plainly(3, k=20, reserve=r, order="high_first") for r in (5, 15))
    plan, whole = (plan_round(1, pool, outputs, s, rng()) for s in (ask, long))
    asked, above = np.concatenate([plan.indices, plan.reserve]), plan.reserve_scores[-1]
    first = extend_reserve(1, pool, outputs, ask, rng(), asked=asked, above=above)
    second = extend_reserve(
        1, pool, outputs, ask, rng(), asked=np.concatenate([asked, first.indices]), above=first.scores[-1]
    )
    assert [*first.indices, *second.indices] == whole.reserve[5:].tolist()
    assert [*first.scores, *second.scores] == whole.reserve_scores[5:].tolist()


@pytest.mark.parametrize(("sampler", "top"), [("margin", 0.5), ("least_confidence", 1.0)])
def test_extend_reserve_always_finds_scores_between_the_last_and_one(sampler, top):
    pool = pool_of(np.arange(400), 1)
    outputs, ask = outputs_with_top([top] * 400), plainly(1, k=10, reserve=20, sampler=sampler)
    plan = plan_round(1, pool, outputs, ask, rng())
    asked, scores = plan.indices, plan.scores
    for _ in range(18):
        more = extend_reserve(1, pool, outputs, ask, rng(), asked=asked, above=scores[-1])
        asked, scores = np.concatenate([asked, more.indices]), np.concatenate([scores, more.scores])
    assert len(set(asked.tolist())) == 10 + 18 * 20
    assert (np.diff(scores) > 0).all()
    assert scores[-1] < 1


def test_extend_reserve_says_when_no_score_is_left():
    pool = pool_of(np.arange(5), 1)
    with pytest.raises(BadInput, match="no scores are left"):
        extend_reserve(0, pool, None, plainly(1, 1, reserve=2), rng(), asked=np.array([0]), above=np.nextafter(1, 0))


def test_images_without_a_batch_are_never_asked():
    pool = pool_of(np.arange(6), 2)
    pool.batch_of[3:] = -1
    pool.losses[3:] = np.nan
    for number in (0, 1, 5):
        plan = plan_round(number, pool, outputs_with_top([0.5] * 6), plainly(2, k=6, holdout=3), rng())
        assert sorted(plan.indices.tolist()) == [0, 1, 2]


def test_an_exhausted_pool_asks_nothing():
    pool = pool_of([1, 2], 1, taken=[0, 1])
    plan = plan_round(0, pool, None, plainly(1, k=3, holdout=2, reserve=2), rng())
    assert [len(a) for a in (plan.indices, plan.scores, plan.holdout, plan.reserve, plan.reserve_scores)] == [0] * 5


def test_a_missing_output_is_named():
    with pytest.raises(BadInput, match="needs 'probs'"):
        plan_round(1, pool_of([1, 2], 1), Outputs(), plainly(1, k=1), rng())


def test_arrays_that_do_not_fit_the_pool_are_refused():
    pool = pool_of([1, 2, 3], 1)
    with pytest.raises(BadInput, match="'probs' has 2 rows for a pool of 3"):
        plan_round(1, pool, outputs_with_top([0.5, 0.5]), plainly(1, k=1), rng())
    with pytest.raises(BadInput, match="'labels' has 1 rows"):
        plan_round(
            0, Pool(pool.losses, pool.batch_of, pool.available, np.zeros(1, np.int64)), None, plainly(1, 1), rng()
        )


def test_an_available_image_with_a_batch_and_no_loss_is_refused():
    pool = pool_of([1, 2, 3], 1)
    pool.losses[1] = np.nan
    with pytest.raises(BadInput, match="1 available images"):
        plan_round(0, pool, None, plainly(1, k=1), rng())


@pytest.mark.parametrize("counts", [{"batches": 0}, {"k": 0}, {"holdout": -1}, {"reserve": -1}])
def test_query_settings_refuse_counts_that_make_no_round(counts):
    with pytest.raises(BadInput, match=f"{next(iter(counts))}={next(iter(counts.values()))}"):
        plainly(**({"batches": 2, "k": 2} | counts))


@pytest.mark.parametrize("name", ["first_query", "sampler", "order"])
def test_query_settings_refuse_unknown_names(name):
    with pytest.raises(UnknownName, match="nonsense"):
        plainly(2, 2, **{name: "nonsense"})


def test_query_settings_name_the_outputs_of_a_round():
    ask = plainly(2, 2, first_query="even", sampler="entropy")
    assert ask.needs(0) == frozenset()
    assert ask.needs(1) == {"entropy"}


def test_a_million_images_are_planned_in_memory_of_their_own_order():
    import tracemalloc

    size = 1_000_000
    generator = rng(0)
    losses = generator.random(size, np.float32)
    pool = Pool(losses, split(losses, 10, "interleaved"), np.ones(size, bool))
    outputs = Outputs(probs=generator.random((size, 4), np.float32))
    tracemalloc.start()
    plan = plan_round(3, pool, outputs, plainly(10, k=1000, holdout=100, reserve=500), rng(1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan.indices) == 1100
    assert peak < 100e6


def test_planning_a_round_loads_no_torch():
    querying = [f"model.querying.{name}" for name in ("plan", "batches", "samplers", "first_queries")]
    modules = ", ".join([*querying, "model.evaluation.metrics", "model.lab.learning_curves"])
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["top", "even", "binned"])
def test_a_first_query_by_losses_draws_while_there_are_neither_losses_nor_batches(name):
    """The order in which images arrive is often that of their classes."""
    pool = Pool(np.full(100, np.nan, np.float32), None, np.ones(100, bool))
    settings = plainly(1, k=10, first_query=name)
    asked = [set(plan_round(0, pool, None, settings, rng(seed)).indices.tolist()) for seed in range(40)]
    halves = [len(images & set(range(50))) for images in asked]
    assert 3 < np.mean(halves) < 7
    assert len({frozenset(images) for images in asked}) > 30
