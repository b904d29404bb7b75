import numpy as np
import pytest

from backend.store import Answer, AskRole, AskState, ProjectRow, Store
from backend.store.dashboard_queries import Asked, QueuedImage
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange


@pytest.fixture
def insight(store: Store, project: ProjectRow, other_project: ProjectRow):
    """Tasks 1 to 6, of which round 0 asks 1, 2, 3 and round 1 asks 3, 4, 5; another project has the same ids."""
    for key in (project.id, other_project.id):
        store.tasks.apply(key, [TaskChange(i, "x", None, Answer.NONE, None) for i in range(1, 7)])
        store.tasks.images_fetched(key, {i: i - 1 for i in range(1, 7)})
    key = project.id
    serve(store, key, 0, [Ask(1, 0.1, AskRole.QUERY), Ask(2, 0.2, AskRole.HOLDOUT), Ask(3, 0.3, AskRole.QUERY)])
    say(store, key, {1: "cat", 2: "dog"})
    guesses = [Ask(3, 0.1, AskRole.QUERY, "cat", 0.5), Ask(4, 0.2, AskRole.RESERVE, "cat", 0.6)]
    serve(store, key, 1, [*guesses, Ask(5, 0.3, AskRole.HOLDOUT, "dog", 0.9)])
    say(store, key, {3: "dog", 4: "cat"})
    return store.insight


def serve(store: Store, key: int, number: int, asks: list[Ask]) -> None:
    store.rounds.plan(key, number, f"r{number}", asks)
    store.rounds.mark(key, number, [ask.task_id for ask in asks], AskState.POSTED)


def say(store: Store, key: int, labels: dict[int, str]) -> None:
    store.tasks.apply(key, [TaskChange(i, "x", None, Answer.LABELED, label) for i, label in labels.items()])


def test_asked_counts_an_answer_in_the_round_that_asked_last(insight, project: ProjectRow) -> None:
    assert insight.asked(project.id) == [
        Asked(0, AskRole.HOLDOUT, "dog", images=1, predicted=0, wrong=0),
        Asked(0, AskRole.QUERY, "cat", images=1, predicted=0, wrong=0),
        Asked(1, AskRole.QUERY, "dog", images=1, predicted=1, wrong=1),
        Asked(1, AskRole.RESERVE, "cat", images=1, predicted=1, wrong=0),
    ]


def test_asked_passes_over_what_was_not_posted(insight, store: Store, project: ProjectRow) -> None:
    store.rounds.plan(project.id, 2, "r2", [Ask(4, 0.1, AskRole.QUERY, "dog", 0.5)])
    assert {row.round for row in insight.asked(project.id)} == {0, 1}


def test_another_project_is_not_counted(insight, other_project: ProjectRow) -> None:
    assert insight.asked(other_project.id) == []
    assert insight.answers(other_project.id) == {}
    assert len(insight.labeled(other_project.id)) == 0


def test_answers_counts_kinds(insight, store: Store, project: ProjectRow) -> None:
    store.tasks.apply(project.id, [TaskChange(6, "x", None, Answer.SKIPPED, None)])
    assert insight.answers(project.id) == {Answer.LABELED: 4, Answer.SKIPPED: 1}


def test_queue_lists_waiting_images_in_serving_order(insight, store: Store, project: ProjectRow) -> None:
    store.tasks.set_losses(project.id, {4: 1.5})
    store.tasks.set_batches(project.id, {4: 2})
    assert insight.queue(project.id, 1, 9) == [QueuedImage(5, 4, "dog", pytest.approx(0.9), 1.5, 2, random=True)]
    assert insight.queue(project.id, 1, 0) == []


def test_losses_of_unscored_images_are_nan_and_gone_images_are_left_out(insight, store: Store, project) -> None:
    store.tasks.set_losses(project.id, {0: 0.5, 2: 1.0})
    store.tasks.set_batches(project.id, {0: 1})
    store.tasks.mark_gone(project.id, [4, 5, 6])
    table = insight.losses(project.id)
    assert table.pool_index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(table.loss, np.array([0.5, np.nan, 1.0], np.float32))
    assert table.batch.tolist() == [1, -1, -1]
    assert insight.losses(project.id, step=2).pool_index.tolist() == [0, 2]


def test_labeled_and_holdout_go_by_pool_index(insight, project: ProjectRow) -> None:
    assert insight.labeled(project.id).tolist() == [0, 1, 2, 3]
    assert insight.holdout(project.id) == [(1, "dog")]


def test_pool_is_what_the_loop_sees_of_it(insight, store: Store, project: ProjectRow, monkeypatch) -> None:
    monkeypatch.setattr("backend.store.dashboard_queries.LINES", 2)  # several reads
    store.tasks.mark_gone(project.id, [1])
    store.tasks.apply(project.id, [TaskChange(6, "x", None, Answer.SKIPPED, None)])
    found, oracle = insight.pool(project.id, 5), store.tasks.pool(project.id, 5)
    assert found.task_id.tolist() == oracle.task_id.tolist() == [-1, 2, 3, 4, 5]
    assert oracle.available.tolist() == [False, False, False, False, True]
    assert oracle.holdout[4], "it waits to measure the model"
    assert not found.unlabeled.any()
    store.rounds.forget(project.id)  # releases the holdout that nobody answered
    assert insight.pool(project.id, 7).unlabeled.tolist() == [False, False, False, False, True, False, False]


def test_pool_of_a_project_without_images_is_empty(insight) -> None:
    found = insight.pool(77, 3)
    assert (found.task_id.tolist(), found.unlabeled.tolist()) == ([-1] * 3, [False] * 3)


def test_task_ids_are_given_for_known_indices_only(insight, project: ProjectRow) -> None:
    assert insight.task_ids(project.id, [0, 5, 77]) == {0: 1, 5: 6}
