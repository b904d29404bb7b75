import numpy as np
import pytest

from backend.store import Answer, ProjectRow, Store
from backend.store.rounds import Ask, AskRole
from backend.store.tasks import Failure, TaskChange


def change(task_id: int, image: str | None = "a.png", answer: Answer = Answer.NONE, label: str | None = None):
    return TaskChange(task_id, image, None if image else "no image", answer, label)


@pytest.fixture
def tasks(store: Store, project: ProjectRow):
    return store.of(project.id).tasks


def fill(tasks, count: int) -> None:
    """Tasks 1..count, images in the bank at 0..count-1."""
    tasks.apply([change(i + 1) for i in range(count)])
    tasks.images_fetched({i + 1: i for i in range(count)})


def test_apply_counts_new_and_imageless_tasks(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1), change(2, image=None), change(3)])
    counts = tasks.counts(0.0)
    assert (counts.tasks, counts.new, counts.broken) == (3, 2, 1)
    assert tasks.broken() == [(2, "no image")]


def test_a_deleted_label_is_no_label(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1), change(2)])
    tasks.apply([change(1, answer=Answer.LABELED, label="cat"), change(2)])
    assert tasks.counts(0.0).labeled == 1
    tasks.apply([change(1)])
    assert tasks.counts(0.0).labeled == 0


def test_apply_keeps_a_known_image_and_fetches_a_changed_one(tasks, project: ProjectRow) -> None:
    fill(tasks, 2)
    tasks.apply([change(1), change(2, image="b.png")])
    assert tasks.counts(0.0).ok == 1
    assert tasks.to_fetch(0.0, 10) == [(2, "b.png")]


def test_reading_a_broken_task_again_does_not_fetch_it_again(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1)])
    tasks.images_failed({1: Failure("not an image", None, quarantined=True)})
    tasks.apply([change(1, answer=Answer.LABELED, label="cat")])
    assert tasks.counts(0.0).new == 0
    tasks.apply([change(1, image="mended.png")])
    assert tasks.to_fetch(0.0, 10) == [(1, "mended.png")]


def test_an_image_that_changed_while_it_was_fetched_is_fetched_again(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1, image="old.png"), change(2)])
    refs = dict(tasks.to_fetch(0.0, 10))
    tasks.apply([change(1, image="new.png")])
    tasks.mark_gone([2])
    tasks.images_fetched({1: 0, 2: 1}, refs)
    assert tasks.to_fetch(0.0, 10) == [(1, "new.png")]
    assert tasks.counts(0.0).ok == 0


def test_mark_gone_forgets_tasks_that_are_missing(tasks, project: ProjectRow) -> None:
    fill(tasks, 3)
    assert tasks.mark_gone([2]) == 1
    assert tasks.counts(0.0).tasks == 2
    assert tasks.known() == {1, 3}
    assert tasks.pool(3).task_id.tolist() == [1, -1, 3]


def test_images_failed_waits_then_quarantines(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1), change(2)])
    waits, never = Failure("timeout", 50.0, quarantined=False), Failure("not an image", None, quarantined=True)
    tasks.images_failed({1: waits, 2: never})
    assert tasks.to_fetch(49.0, 10) == []
    assert tasks.to_fetch(50.0, 10) == [(1, "a.png")]
    assert tasks.counts(49.0).new == 0
    assert tasks.broken() == [(2, "not an image")]
    assert tasks.attempts([1, 2]) == {1: 1, 2: 1}


def test_retry_due_takes_out_of_quarantine_what_may_be_there_again(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1), change(2), change(3)])
    later, never = Failure("timeout", 50.0, quarantined=True), Failure("not an image", None, quarantined=True)
    tasks.images_failed({1: later, 2: never})
    assert tasks.broken() == [(1, "timeout"), (2, "not an image")]
    assert tasks.retry_due(49.0) == 0
    assert tasks.retry_due(50.0) == 1
    assert [task for task, _ in tasks.to_fetch(50.0, 10)] == [1, 3]
    assert tasks.attempts([1]) == {1: 1}, "the next pause is longer"


def test_retry_broken_takes_images_out_of_quarantine(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1), change(2, image=None)])
    tasks.images_failed({1: Failure("404", None, quarantined=True)})
    assert tasks.retry_broken() == 1
    assert tasks.to_fetch(0.0, 10) == [(1, "a.png")]


def test_pool_gives_arrays_by_pool_index(store: Store, tasks, project: ProjectRow) -> None:
    fill(tasks, 4)
    tasks.set_losses({0: 0.5, 1: 0.25, 3: 1e-7})
    tasks.set_batches({0: 1, 1: 0})
    store.of(project.id).rounds.plan(0, "v0", [Ask(2, 0.1, AskRole.HOLDOUT)])
    tasks.apply([change(2, answer=Answer.LABELED, label="cat"), change(3, answer=Answer.SKIPPED)])
    pool = tasks.pool(4)
    np.testing.assert_array_equal(pool.loss, np.array([0.5, 0.25, np.nan, 1e-7], np.float32))
    assert pool.batch.tolist() == [1, 0, -1, -1]
    assert pool.available.tolist() == [True, False, False, True]
    assert pool.labeled.tolist() == [False, True, False, False]
    assert pool.holdout.tolist() == [False, True, False, False]
    assert tasks.labels() == [(1, "cat", True)]


def test_counts_of_a_pool_on_its_way(tasks, project: ProjectRow) -> None:
    fill(tasks, 3)
    tasks.set_losses({0: 0.5, 1: 0.25})
    tasks.set_batches({0: 0})
    counts = tasks.counts(0.0)
    assert (counts.unscored, counts.unsplit, counts.unrecorded) == (1, 1, 1)


def test_unrecorded_lists_what_label_studio_knows_wrongly(tasks, project: ProjectRow) -> None:
    fill(tasks, 2)
    tasks.set_losses({0: 0.125, 1: float(np.float32(0.123456789))})
    tasks.set_batches({0: 1, 1: 0})
    tasks.batch_recorded([1], 1)
    tasks.losses_recorded({1: 0.125, 2: float(np.float32(0.123456789))})
    assert [(row[0], row[4]) for row in tasks.unrecorded(9)] == [(2, None)]
    tasks.batch_recorded([2], 0)
    assert tasks.unrecorded(9) == []
    tasks.set_losses({1: 0.2})
    assert [row[0] for row in tasks.unrecorded(9)] == [2]


def test_projects_do_not_see_each_other(tasks, store: Store, other_project: ProjectRow) -> None:
    others = store.of(other_project.id).tasks
    fill(tasks, 3)
    fill(others, 1)
    tasks.set_losses({0: 0.5})
    assert others.counts(0.0).unscored == 1
    assert tasks.pool_size() == 3
    assert others.pool_size() == 1
