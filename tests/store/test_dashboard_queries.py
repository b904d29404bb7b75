import time
from collections import Counter

import numpy as np
import pytest

from backend.store import Answer, AskRole, AskState, ProjectRow, Store
from backend.store.dashboard_queries import AskedQuality, AskedTarget, QueuedImage
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange


@pytest.fixture
def queries(store: Store, project: ProjectRow, other_project: ProjectRow):
    """Tasks 1 to 6, of which round 0 asks 1, 2, 3 and round 1 asks 3, 4, 5; another project has the same ids."""
    for key in (project.id, other_project.id):
        store.of(key).tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in range(1, 7)])
        store.of(key).tasks.images_fetched({i: i - 1 for i in range(1, 7)})
    key = project.id
    serve(store, key, 0, [Ask(1, 0.1, AskRole.QUERY), Ask(2, 0.2, AskRole.HOLDOUT), Ask(3, 0.3, AskRole.QUERY)])
    answer(store, key, {1: "cat", 2: "dog"})
    guesses = [Ask(3, 0.1, AskRole.QUERY, "cat", 0.5), Ask(4, 0.2, AskRole.RESERVE, "cat", 0.6)]
    serve(store, key, 1, [*guesses, Ask(5, 0.3, AskRole.HOLDOUT, "dog", 0.9)])
    answer(store, key, {3: "dog", 4: "cat"})
    return store.of(project.id).dashboard


def serve(store: Store, key: int, number: int, asks: list[Ask]) -> None:
    store.of(key).rounds.plan(number, f"r{number}", asks)
    store.of(key).rounds.mark(number, [ask.task_id for ask in asks], AskState.POSTED)


def answer(store: Store, key: int, targets: dict[int, str]) -> None:
    store.of(key).tasks.apply([TaskChange(i, "x", None, Answer.LABELED, target) for i, target in targets.items()])


def test_asked_counts_an_answer_in_the_round_that_asked_last(queries) -> None:
    assert queries.asked_qualities() == [
        AskedQuality(0, AskRole.HOLDOUT, images=1, predicted=0, quality=0, squares=0),
        AskedQuality(0, AskRole.QUERY, images=1, predicted=0, quality=0, squares=0),
        AskedQuality(1, AskRole.QUERY, images=1, predicted=1, quality=0, squares=0),
        AskedQuality(1, AskRole.RESERVE, images=1, predicted=1, quality=1, squares=1),
    ]
    assert queries.asked_targets() == [
        AskedTarget(0, AskRole.HOLDOUT, "dog", images=1),
        AskedTarget(0, AskRole.QUERY, "cat", images=1),
        AskedTarget(1, AskRole.QUERY, "dog", images=1),
        AskedTarget(1, AskRole.RESERVE, "cat", images=1),
    ]


def test_asked_qualities_are_summed_with_their_squares(queries, store: Store, project: ProjectRow) -> None:
    store.of(project.id).rounds.plan(2, "r2", [Ask(6, 0.1, AskRole.QUERY, ["a"]), Ask(5, 0.2, AskRole.QUERY, ["b"])])
    store.of(project.id).rounds.mark(2, [5, 6], AskState.POSTED)
    changes = [TaskChange(i, "x", None, Answer.LABELED, ["a", "b"]) for i in (5, 6)]
    store.of(project.id).tasks.apply(changes, lambda prediction, _: 0.25 if prediction == ["a"] else 0.5)
    assert queries.asked_qualities()[-1] == AskedQuality(2, AskRole.QUERY, 2, 2, quality=0.75, squares=0.3125)
    assert queries.asked_targets()[-1] == AskedTarget(2, AskRole.QUERY, ["a", "b"], images=2)


def test_asked_targets_are_the_same_one_by_one(queries) -> None:
    one_by_one = Counter((row.round, row.role, row.target) for row in queries.each_asked_target())
    assert one_by_one == {(row.round, row.role, row.target): row.images for row in queries.asked_targets()}
    assert {row.images for row in queries.each_asked_target()} == {1}


def test_an_asked_prediction_is_that_of_its_round(queries) -> None:
    assert queries.asked_prediction(1, 3) == "cat"  # task 4
    assert queries.asked_prediction(0, 2) is None  # task 3, asked without a model
    assert queries.asked_prediction(0, 3) is None  # not asked


def test_asked_leaves_out_what_was_not_posted(queries, store: Store, project: ProjectRow) -> None:
    store.of(project.id).rounds.plan(2, "r2", [Ask(4, 0.1, AskRole.QUERY, "dog", 0.5)])
    assert {row.round for row in queries.asked_targets()} == {0, 1}
    assert {row.round for row in queries.asked_qualities()} == {0, 1}


def test_another_project_is_not_counted(queries, store: Store, other_project: ProjectRow) -> None:
    other = store.of(other_project.id).dashboard
    assert other.asked_targets() == other.asked_qualities() == []
    assert other.answers() == {}
    assert len(other.labeled()) == 0


def test_answers_counts_kinds(queries, store: Store, project: ProjectRow) -> None:
    store.of(project.id).tasks.apply([TaskChange(6, "x", None, Answer.SKIPPED, None)])
    assert queries.answers() == {Answer.LABELED: 4, Answer.SKIPPED: 1}


def test_queue_lists_waiting_images_in_serving_order(queries, store: Store, project: ProjectRow) -> None:
    store.of(project.id).tasks.set_losses({4: 1.5})
    store.of(project.id).tasks.set_batches({4: 2})
    assert queries.queue(1, 9) == [QueuedImage(5, 4, "dog", pytest.approx(0.9), 1.5, 2, random=True)]
    assert queries.queue(1, 0) == []


def test_losses_of_unscored_images_are_nan_and_gone_images_are_left_out(queries, store: Store, project) -> None:
    store.of(project.id).tasks.set_losses({0: 0.5, 2: 1.0})
    store.of(project.id).tasks.set_batches({0: 1})
    store.of(project.id).tasks.mark_gone([4, 5, 6])
    table = queries.losses()
    assert table.pool_index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(table.loss, np.array([0.5, np.nan, 1.0], np.float32))
    assert table.batch.tolist() == [1, -1, -1]
    assert queries.losses(step=2).pool_index.tolist() == [0, 2]


def test_labeled_and_holdout_go_by_pool_index(queries, project: ProjectRow) -> None:
    assert queries.labeled().tolist() == [0, 1, 2, 3]
    assert queries.holdout() == [(1, "dog")]


def test_pool_is_what_the_loop_sees_of_it(queries, store: Store, project: ProjectRow, monkeypatch) -> None:
    monkeypatch.setattr("backend.store.dashboard_queries.LINES", 2)  # several reads
    store.of(project.id).tasks.mark_gone([1])
    store.of(project.id).tasks.apply([TaskChange(6, "x", None, Answer.SKIPPED, None)])
    found, oracle = queries.pool(5), store.of(project.id).tasks.pool(5)
    assert found.task_id.tolist() == oracle.task_id.tolist() == [-1, 2, 3, 4, 5]
    assert oracle.available.tolist() == [False, False, False, False, True]
    assert oracle.holdout[4], "it waits to measure the model"
    assert not found.unlabeled.any()
    store.of(project.id).rounds.forget()  # releases the holdout that nobody answered
    assert queries.pool(7).unlabeled.tolist() == [False, False, False, False, True, False, False]


def test_pool_of_a_project_without_images_is_empty(store: Store) -> None:
    found = store.of(77).dashboard.pool(3)
    assert (found.task_id.tolist(), found.unlabeled.tolist()) == ([-1] * 3, [False] * 3)


def test_task_ids_are_given_for_known_indices_only(queries, project: ProjectRow) -> None:
    assert queries.task_ids([0, 5, 77]) == {0: 1, 5: 6}


@pytest.mark.parametrize(
    ("labels", "differ"),
    [
        ({}, False),
        ({1: "cat"}, False),
        ({1: "cat", 2: "cat", 3: "cat"}, False),
        ({1: "cat", 2: "cat", 3: "dog"}, True),
        ({1: [], 2: []}, False),
        ({1: ["cat", "dog"], 2: ["dog", "cat"]}, True),  # targets of sets come sorted
        ({1: 0.5, 2: 0.5}, False),
        ({1: 0.5, 2: 0.25}, True),
    ],
)
def test_two_targets_are_seen(store: Store, project: ProjectRow, labels: dict, differ: bool) -> None:
    key = project.id
    store.of(key).tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in range(1, 5)])
    store.of(key).tasks.images_fetched({i: i - 1 for i in range(1, 5)})
    answer(store, key, labels)
    assert store.of(key).dashboard.has_two_targets(time.time() + 1) == differ
    assert not store.of(key).dashboard.has_two_targets(time.time() - 60)  # nothing was there
