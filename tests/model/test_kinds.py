"""No two of a kind in a round, nor on both sides of the holdout, and everything is asked in the end."""

from functools import partial

import numpy as np
import pytest
from support.features import copies, different

from model.querying.batches import split
from model.querying.outputs import Outputs
from model.querying.plan import Pool, QuerySettings, extend_reserve, plan_round

N, OF_EACH = 90, 3
EACH = np.tile(np.arange(N), OF_EACH)  # the picture that each image shows
settings = partial(QuerySettings, 2, k=10, holdout=5, reserve=20, first_query="even", sampler="least_confidence")


def rng(seed=0):
    return np.random.default_rng(seed)


def pool_of(kind, available=None, answered=None, held=None, **more):
    """A pool in which every picture is there three times: equal, or looking alike."""
    size = len(EACH)
    losses = rng().random(size).astype(np.float32)
    free = np.ones(size, bool) if available is None else available
    no = np.zeros(size, bool)
    rows = np.concatenate([copies(different(N), seed=number) for number in range(OF_EACH)])
    twins = EACH.copy() if kind == "equal" else None
    looks = rows if kind == "alike" else None
    batches = split(losses, 2, "interleaved")
    return Pool(losses, batches, free, None, None, no if answered is None else answered,
                no if held is None else held, twins, looks, **more)  # fmt: skip


def outputs():
    probs = rng(5).dirichlet(np.ones(3), N).astype(np.float32)
    return Outputs(probs=probs[EACH])  # copies are as doubtful as their originals


KINDS = pytest.mark.parametrize("kind", ["equal", "alike"])
ROUNDS = pytest.mark.parametrize("number", [0, 1, 5])


def mask(indices):
    found = np.zeros(len(EACH), bool)
    found[indices] = True
    return found


@KINDS
@ROUNDS
def test_a_round_has_no_two_of_a_kind(kind, number):
    planned = plan_round(number, pool_of(kind), outputs() if number else None, settings(), rng(1))
    query, held = planned.indices[~planned.holdout], planned.indices[planned.holdout]
    assert len(query) == 10
    assert len(set(EACH[query])) == 10
    assert len(held) == 5
    assert not set(EACH[held]) & set(EACH[query])
    reserve = EACH[planned.reserve]
    assert len(set(reserve)) == len(reserve) == 20
    assert not set(reserve) & set(EACH[planned.indices])
    scores = np.concatenate([planned.scores, planned.reserve_scores])
    assert (np.diff(scores) > 0).all()
    assert 0 <= scores[0] <= scores[-1] < 1


@KINDS
def test_what_was_answered_is_not_asked_again_while_others_are_left(kind):
    answered, held = mask(np.arange(0, 40)), mask(np.arange(40, 50))
    pool = pool_of(kind, ~(answered | held), answered, held)
    planned = plan_round(1, pool, outputs(), settings(), rng(1))
    query = planned.indices[~planned.holdout]
    assert len(query) == 10
    assert (EACH[query] >= 50).all()
    assert (EACH[planned.reserve] >= 40).all(), "none is of a kind with the holdout"


@KINDS
def test_the_holdout_is_of_no_kind_with_what_is_learned(kind):
    answered = mask(np.arange(0, 80))
    for seed in range(5):
        planned = plan_round(1, pool_of(kind, ~answered, answered), outputs(), settings(k=2), rng(seed))
        held = EACH[planned.indices[planned.holdout]]
        assert len(held) == 5
        assert (held >= 80).all()
        assert not set(held) & set(EACH[planned.indices[~planned.holdout]])


@KINDS
def test_more_reserve_is_of_no_kind_with_what_the_round_asks(kind):
    asked = np.arange(0, 30)
    more = extend_reserve(1, pool_of(kind), outputs(), settings(), rng(), asked=asked, above=0.5)
    assert len(more.indices) == 20
    assert (EACH[more.indices] >= 30).all()


@KINDS
def test_everything_is_asked_in_the_end_and_never_two_of_a_kind_at_once(kind):
    answered, held, sides = mask([]), mask([]), []
    for number in range(100):
        free = ~(answered | held)
        if not free.any():
            break
        pool = pool_of(kind, free, answered, held)
        planned = plan_round(number, pool, outputs() if number else None, settings(), rng(number))
        query, drawn = planned.indices[~planned.holdout], planned.indices[planned.holdout]
        assert len(planned.indices), "a round asks something while anything is left"
        assert len(set(EACH[query])) == len(query)
        answered |= mask(query)
        held |= mask(drawn)
        sides.append(len(query))
    assert not (~(answered | held)).any()
    assert not set(EACH[answered]) & set(EACH[held]), "no picture is on both sides"
    assert sides[0] == 10


def test_of_equal_images_no_two_are_in_a_reserve_even_at_the_end():
    answered = mask(np.arange(0, 84))
    planned = plan_round(5, pool_of("equal", ~answered, answered), outputs(), settings(), rng())
    everything = EACH[np.concatenate([planned.indices, planned.reserve])]
    assert len(set(everything)) == len(everything)


def test_images_that_look_alike_are_reserve_where_nothing_else_is_left():
    answered = mask(np.flatnonzero(EACH < 86))
    planned = plan_round(5, pool_of("alike", ~answered, answered), outputs(), settings(holdout=0), rng())
    assert len(planned.indices) == 4
    assert len(planned.reserve) == 8, "annotators do not wait"


def test_a_pool_without_equal_images_is_asked_as_before():
    size = len(EACH)
    plain = pool_of("none")
    numbered = Pool(plain.losses, plain.batch_of, plain.available, answered=plain.answered, twins=np.arange(size))
    for number in (0, 1, 5):
        first, second = (
            plan_round(number, pool, outputs() if number else None, settings(), rng(3)) for pool in (plain, numbered)
        )
        np.testing.assert_array_equal(first.indices, second.indices)
        np.testing.assert_array_equal(first.scores, second.scores)
        np.testing.assert_array_equal(first.reserve, second.reserve)
