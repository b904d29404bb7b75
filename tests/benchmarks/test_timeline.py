"""A round's steps, one after the other, as the loop leaves them in the store."""

import time

import pytest

from backend.loop.facts import JobKind
from backend.store import Answer, AskRole, AskState, RoundState, Store
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange
from benchmarks.timeline import Timeline


@pytest.fixture
def store(store: Store) -> Store:
    """Have round 0 served."""
    store.of(1).tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in (1, 2)])
    store.of(1).tasks.images_fetched({1: 0, 2: 1})
    store.of(1).rounds.plan(0, "r0", [Ask(1, 0.1, AskRole.QUERY)])
    store.of(1).rounds.mark(0, [1], AskState.POSTED)
    store.of(1).rounds.go_live(0)
    return store


def test_the_steps_between_two_queues_add_up_and_have_the_stores_own_times(store: Store) -> None:
    timeline, answered = Timeline(store, 1, 0), time.time()
    token = store.of(1).jobs.start(JobKind.RETRAIN)
    queued = store.of(1).jobs.all()[0].queued_at
    timeline.look()
    store.of(1).rounds.add_seconds(0, retrain=0.5, score=0.25)
    closed = queued + 1.0
    store.of(1).rounds.set(0, state=RoundState.CLOSED, closed_at=closed)
    store.of(1).jobs.finish(JobKind.RETRAIN, token)
    store.of(1).rounds.plan(1, "r1", [Ask(2, 0.1, AskRole.QUERY)])
    timeline.look()
    time.sleep(0.05)
    timeline.look()  # it was planned when it was seen first
    store.of(1).rounds.mark(1, [2], AskState.POSTED)
    timeline.look()
    store.of(1).rounds.set(1, live_at=closed + 60.0)
    timeline.look()
    parts = timeline.parts(answered, closed + 62.0)
    assert list(parts) == ["noticed", "taken up", "fit", "predict", "plan", "post", "switch", "seen"]
    assert sum(parts.values()) == pytest.approx(closed + 62.0 - answered)
    assert parts["noticed"] == pytest.approx(queued - answered)
    assert parts["taken up"] == pytest.approx(0.25)
    assert (parts["fit"], parts["predict"]) == (pytest.approx(0.5), pytest.approx(0.25))
    assert parts["post"] >= 0.05
    assert parts["seen"] == pytest.approx(2.0)


def test_a_round_that_nobody_trained_on_has_no_steps(store: Store) -> None:
    with pytest.raises(ValueError, match="round 0 is not trained on yet"):
        Timeline(store, 1, 0).parts(0.0, 1.0)


def test_it_looks_by_itself_and_once_more_at_the_end(store: Store) -> None:
    with Timeline(store, 1, 0) as timeline:
        store.of(1).jobs.start(JobKind.RETRAIN)
        store.of(1).rounds.add_seconds(0, retrain=0.5, score=0.25)
        store.of(1).rounds.set(0, state=RoundState.CLOSED, closed_at=time.time())
        store.of(1).rounds.plan(1, "r1", [Ask(2, 0.1, AskRole.QUERY)])
        store.of(1).rounds.mark(1, [2], AskState.POSTED)
        store.of(1).rounds.go_live(1)
    assert sum(timeline.parts(100.0, 200.0).values()) == pytest.approx(100.0)
