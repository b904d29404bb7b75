"""What every first query and every sampler promises, over both registries."""

import re
from pathlib import Path

import numpy as np
import pytest

from model.errors import UnknownName
from model.problems import PROBLEMS, problem
from model.problems.segmentation import COLUMNS
from model.querying.batches import split
from model.querying.first_queries import FIRST_QUERIES, first_query
from model.querying.outputs import DERIVED, OUTPUTS, Outputs, pool_axis
from model.querying.plan import Pool, QuerySettings, plan_round
from model.querying.samplers import SAMPLERS, sampler
from model.querying.selection import Candidates

CONFIGURATION = Path(__file__).parents[2] / "docs" / "configuration.md"
STRATEGIES = [
    pytest.param(s, id=f"{kind}-{n}")
    for kind, r in (("first", FIRST_QUERIES), ("sampler", SAMPLERS))
    for n, s in r.items()
]


def of(strategy):
    """The first problem whose models give what the strategy reads."""
    return next(name for name in ("single_label", *PROBLEMS) if strategy.needs <= PROBLEMS[name].outputs)


def candidates_of(n, *, strategy=None, size=300, copies=False, seed=0, labeled=20):
    """A pool whose outputs are given only as far as the strategy declares them."""
    generator = np.random.default_rng(seed)
    needs = strategy.needs if strategy else set(OUTPUTS)
    arrays = {
        "probs": generator.dirichlet(np.full(5, 0.5), size).astype(np.float32),
        "logits": generator.normal(size=(size, 5)).astype(np.float32),
        "embeddings": generator.normal(size=(size, 8)).astype(np.float32),
        "mutual_information": generator.random(size, np.float32),
        "dropout_entropy": generator.random(size, np.float32),
        "ensemble_probs": generator.dirichlet(np.full(5, 0.5), (3, size)).astype(np.float32),
        "dropout_probs": generator.dirichlet(np.full(5, 0.5), (20, size)).astype(np.float16),
        "task_aware_probability": generator.random(size, np.float32),
        "critic": generator.random(size, np.float32),
        "graph_features": generator.normal(size=(size, 7)).astype(np.float16),
        "turned_embeddings": generator.normal(size=(size, 4, 8)).astype(np.float16),
        "predicted_losses": generator.normal(size=size).astype(np.float32),
        "detached_losses": generator.normal(size=size).astype(np.float32),
        "labeled_probability": generator.random(size, np.float32),
        "pretext_embeddings": generator.normal(size=(size, 6)).astype(np.float32),
    }
    if copies:
        arrays = {name: np.broadcast_to(a.take([0], pool_axis(name)), a.shape).copy() for name, a in arrays.items()}
    order = generator.permutation(size)
    labels = np.full(size, -1)
    labels[order[n : n + labeled]] = arrays["probs"][order[n : n + labeled]].argmax(axis=1)
    kind = of(strategy) if strategy else "single_label"
    if kind == "segmentation":
        values = generator.random((1 if copies else size, COLUMNS)).astype(np.float32)
        maps = generator.integers(0, 4, (1 if copies else size, 4, 4)).astype(np.uint8)
        places = generator.normal(size=(1 if copies else size, 4, 8)).astype(np.float16)
        arrays |= {
            "values": np.broadcast_to(values, (size, COLUMNS)),
            "class_maps": np.broadcast_to(maps, (size, 4, 4)),
            "places": np.broadcast_to(places, (size, 4, 8)),
        }
    stored = needs | {*problem(kind).base_outputs} if needs & DERIVED else needs
    return Candidates(
        indices=order[:n],
        losses=generator.random(size, np.float32),
        outputs=Outputs(**{name: a for name, a in arrays.items() if name in stored}),
        labels=labels if strategy is None or "labels" in needs else None,
        covered=np.sort(order[n : n + labeled]),
        classes=5,
        problem=problem(kind),
    )


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("k", [0, 1, 7, 60])
def test_strategy_asks_k_distinct_candidates_with_what_it_declares(strategy, k):
    candidates = candidates_of(100, strategy=strategy)
    query = strategy.select(candidates, k, rng())
    assert len(query.indices) == k == len(set(query.indices.tolist()))
    assert set(query.indices.tolist()) <= set(candidates.indices.tolist())
    assert query.indices.dtype == np.int64
    assert query.scores.shape == (k,)
    assert (np.diff(query.scores) > 0).all()
    assert ((query.scores >= 0) & (query.scores < 1)).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n", [1, 2, 6, 10])
def test_strategy_asks_everything_where_there_are_fewer_than_k(strategy, n):
    candidates = candidates_of(n, strategy=strategy)
    query = strategy.select(candidates, 10, rng())
    assert sorted(query.indices.tolist()) == sorted(candidates.indices.tolist())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategy_is_repeated_by_the_same_seed_and_touches_no_global_state(strategy):
    candidates = candidates_of(80, strategy=strategy)
    first = strategy.select(candidates, 20, rng(4))
    np.random.seed(99)
    state = np.random.get_state()[1].copy()
    again = strategy.select(candidates, 20, rng(4))
    assert first.indices.tolist() == again.indices.tolist()
    assert first.scores.tolist() == again.scores.tolist()
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategy_copes_with_copies_of_one_image(strategy):
    candidates = candidates_of(40, strategy=strategy, copies=True)
    query = strategy.select(candidates, 15, rng())
    assert len(set(query.indices.tolist())) == 15


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategy_copes_with_nothing_labeled(strategy):
    candidates = candidates_of(40, strategy=strategy, labeled=0)
    assert len(set(strategy.select(candidates, 15, rng()).indices.tolist())) == 15


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategy_leaves_its_inputs_as_they_are(strategy):
    candidates, untouched = candidates_of(40, strategy=strategy), candidates_of(40, strategy=strategy)
    strategy.select(candidates, 15, rng())
    for name in OUTPUTS:
        assert np.array_equal(getattr(candidates.outputs, name), getattr(untouched.outputs, name))
    assert np.array_equal(candidates.indices, untouched.indices)
    assert np.array_equal(candidates.labels, untouched.labels)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategy_declares_outputs_that_exist(strategy):
    assert strategy.needs <= {*OUTPUTS, *DERIVED, "labels"}


@pytest.mark.parametrize("order", ["interleaved", "none"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_plans_a_round_inside_a_batch_and_over_the_whole_pool(name, order):
    strategy = SAMPLERS[name]
    pool, outputs = pool_of(order), candidates_of(100, strategy=strategy).outputs
    settings = QuerySettings(5, 12, 3, 40, sampler=name, order=order, classes=5, problem=of(strategy))
    plan = plan_round(1, pool, outputs, settings, rng())
    assert set(plan.indices[~plan.holdout]) <= set(
        np.flatnonzero(pool.available & (pool.batch_of == (order[0] == "i")))
    )
    assert (len(plan.indices), len(plan.reserve)) == (15, 40)


@pytest.mark.parametrize("order", ["interleaved", "none"])
@pytest.mark.parametrize("name", FIRST_QUERIES)
def test_first_query_plans_a_round_inside_a_batch_and_over_the_whole_pool(name, order):
    pool = pool_of(order)
    plan = plan_round(0, pool, None, QuerySettings(5, 12, 3, 40, first_query=name, order=order, classes=5), rng())
    assert set(plan.indices[~plan.holdout]) <= set(np.flatnonzero(pool.available & (pool.batch_of == 0)))
    assert (len(plan.indices), len(plan.reserve)) == (15, 40)


def pool_of(order):
    """Twenty of three hundred images are labeled, and batches are cut by loss."""
    known = candidates_of(280)
    return Pool(
        known.losses, split(known.losses, 5, order), known.labels < 0, known.labels, known.outputs.pretext_embeddings
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_documentation_of_a_sampler_is_its_record(name):
    info = SAMPLERS[name].info
    rows = [line for line in CONFIGURATION.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    assert f"| `{name}` | {info.asks} | {info.source} | {info.cost} |" in rows


@pytest.mark.parametrize("name", FIRST_QUERIES)
def test_the_documentation_of_a_first_query_names_its_source(name):
    rows = [line for line in CONFIGURATION.read_text().splitlines() if re.match(rf"\|.*`{name}`.*\|.*\|.*\|$", line)]
    assert any(FIRST_QUERIES[name].info.source in row for row in rows)
    assert FIRST_QUERIES[name].info.asks


def test_unknown_names_list_the_choices():
    with pytest.raises(UnknownName, match=r"unknown sampler 'best'.*least_confidence, .*, margin"):
        sampler("best")
    with pytest.raises(UnknownName, match=r"unknown first query 'best'.*even, kmeans"):
        first_query("best")
