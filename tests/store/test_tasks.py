from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import event, select, text

from backend.store import Answer, ProjectRow, Store
from backend.store.rounds import Ask, AskRole
from backend.store.tables import AskRow, canonical_json
from backend.store.tasks import Failure, TaskChange
from model.problems.base import Target


def change(task_id: int, image: str | None = "a.png", answer: Answer = Answer.NONE, target: Target | None = None):
    return TaskChange(task_id, image, None if image else "no image", answer, target)


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
    tasks.apply([change(1, answer=Answer.LABELED, target="cat"), change(2)])
    assert tasks.counts(0.0).labeled == 1
    tasks.apply([change(1)])
    assert tasks.counts(0.0).labeled == 0


def test_an_image_with_another_address_stays_in_use_until_it_is_fetched(tasks, project: ProjectRow) -> None:
    fill(tasks, 2)
    tasks.set_losses({0: 0.5, 1: 0.25})
    tasks.set_batches({0: 1, 1: 2})
    tasks.apply([change(1), change(2, image="b.png")])
    counts = tasks.counts(0.0)
    assert (counts.ok, counts.new, counts.renewed) == (2, 0, 1)
    assert tasks.renewed(0.0, 10) == [(2, "b.png")]
    assert tasks.to_fetch(0.0, 10) == []
    tasks.images_fetched({2: 1}, {2: "b.png"})
    assert tasks.counts(0.0).renewed == 0
    assert (tasks.pool(2).loss.tolist(), tasks.pool(2).batch.tolist()) == ([0.5, 0.25], [1, 2])


def test_loss_and_batch_of_another_picture_go(tasks, project: ProjectRow) -> None:
    fill(tasks, 2)
    tasks.set_losses({0: 0.5, 1: 0.25})
    tasks.set_batches({0: 1, 1: 2})
    tasks.apply([change(2, image="b.png")])
    tasks.images_fetched({2: 2}, {2: "b.png"})
    pool = tasks.pool(3)
    assert pool.task_id.tolist() == [1, -1, 2]
    np.testing.assert_array_equal(pool.loss, np.array([0.5, np.nan, np.nan], np.float32))
    assert pool.batch.tolist() == [1, -1, -1]
    counts = tasks.counts(0.0)
    assert (counts.ok, counts.unscored, counts.unsplit, counts.renewed) == (2, 1, 0, 0)


def test_a_renewed_image_that_cannot_be_fetched_leaves_the_pool_when_it_is_quarantined(
    tasks, project: ProjectRow
) -> None:
    fill(tasks, 2)
    tasks.set_losses({0: 0.5, 1: 0.25})
    tasks.apply([change(2, image="b.png")])
    tasks.images_failed({2: Failure("timeout", 50.0, quarantined=False)}, {2: "b.png"})
    assert (tasks.counts(49.0).ok, tasks.counts(49.0).renewed, tasks.counts(50.0).renewed) == (2, 0, 1)
    tasks.images_failed({2: Failure("403", None, quarantined=True)}, {2: "b.png"})
    assert (tasks.counts(50.0).ok, tasks.counts(50.0).broken) == (1, 1)
    tasks.apply([change(2, image="c.png")])
    tasks.images_fetched({2: 1}, {2: "c.png"})
    assert tasks.pool(2).loss.tolist() == [0.5, 0.25], "it has its place again"


def test_places_without_a_task_are_found(tasks, project: ProjectRow) -> None:
    fill(tasks, 3)
    assert tasks.in_use(3) is None
    tasks.mark_gone([2])
    assert tasks.in_use(4).tolist() == [True, False, True, False]


def test_all_places_are_given_up_when_all_is_fetched_again(tasks, project: ProjectRow) -> None:
    fill(tasks, 4)
    tasks.apply([change(1, image="b.png"), change(2, image=None)])
    tasks.images_failed({3: Failure("403", None, quarantined=True)})
    tasks.refetch_all()
    assert tasks.pool_size() == 0
    counts = tasks.counts(0.0)
    assert (counts.new, counts.broken, counts.renewed) == (2, 2, 0)


def test_fields_that_were_overwritten_are_recorded_again(tasks, project: ProjectRow) -> None:
    fill(tasks, 2)
    tasks.set_losses({0: 0.5, 1: 0.25})
    tasks.set_batches({0: 0, 1: 0})
    tasks.losses_recorded({1: 0.5, 2: 0.25})
    tasks.batch_recorded([1, 2], 0)
    assert tasks.counts(0.0).unrecorded == 0
    tasks.apply([change(1), replace(change(2), bare=True)])
    assert [line.task_id for line in tasks.unrecorded(10)] == [2]


def test_reading_a_broken_task_again_does_not_fetch_it_again(tasks, project: ProjectRow) -> None:
    tasks.apply([change(1)])
    tasks.images_failed({1: Failure("not an image", None, quarantined=True)})
    tasks.apply([change(1, answer=Answer.LABELED, target="cat")])
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
    tasks.apply([change(2, answer=Answer.LABELED, target="cat"), change(3, answer=Answer.SKIPPED)])
    pool = tasks.pool(4)
    np.testing.assert_array_equal(pool.loss, np.array([0.5, 0.25, np.nan, 1e-7], np.float32))
    assert pool.batch.tolist() == [1, 0, -1, -1]
    assert pool.available.tolist() == [True, False, False, True]
    assert pool.labeled.tolist() == [False, True, False, False]
    assert pool.holdout.tolist() == [False, True, False, False]
    assert tasks.targets() == [(1, "cat", True)]


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


def qualities(store: Store) -> dict[tuple[int, int], float | None]:
    """Return the quality by round and task."""
    with store.read() as session:
        return {(row.round, row.task_id): row.quality for row in session.scalars(select(AskRow))}


def test_apply_writes_the_quality_of_every_prediction_for_a_new_target(store: Store, tasks, project) -> None:
    fill(tasks, 4)
    store.of(project.id).rounds.plan(0, "v0", [Ask(1, 0.1, AskRole.QUERY), Ask(2, 0.2, AskRole.QUERY, "cat", 0.5)])
    store.of(project.id).rounds.plan(1, "v1", [Ask(2, 0.1, AskRole.QUERY, "dog"), Ask(3, 0.2, AskRole.QUERY, "dog")])
    tasks.apply([change(i, answer=Answer.LABELED, target="cat") for i in (1, 2)])
    assert qualities(store) == {(0, 1): None, (0, 2): 1.0, (1, 2): 0.0, (1, 3): None}
    tasks.apply([change(2, answer=Answer.LABELED, target="dog")])
    assert qualities(store) == {(0, 1): None, (0, 2): 0.0, (1, 2): 1.0, (1, 3): None}
    tasks.apply([change(2, answer=Answer.SKIPPED)])
    assert set(qualities(store).values()) == {None}


def test_a_prediction_of_another_problem_has_no_quality(store: Store, tasks, project) -> None:
    fill(tasks, 1)
    store.of(project.id).rounds.plan(0, "v0", [Ask(1, 0.1, AskRole.QUERY, "cat")])
    store.of(project.id).rounds.plan(1, "v1", [Ask(1, 0.1, AskRole.QUERY, ["cat"])])
    tasks.apply([change(1, answer=Answer.LABELED, target=["cat"])])
    assert qualities(store) == {(0, 1): None, (1, 1): 1.0}


def test_a_task_that_is_gone_has_no_quality(store: Store, tasks, project: ProjectRow) -> None:
    fill(tasks, 1)
    store.of(project.id).rounds.plan(0, "v0", [Ask(1, 0.1, AskRole.QUERY, "cat")])
    tasks.apply([change(1, answer=Answer.LABELED, target="cat")])
    assert qualities(store) == {(0, 1): 1.0}
    tasks.mark_gone([1])
    assert qualities(store) == {(0, 1): None}


def test_quality_is_computed_for_changed_targets_only_and_read_at_once(store: Store, tasks, project) -> None:
    fill(tasks, 600)
    store.of(project.id).rounds.plan(0, "v0", [Ask(i, 0.1, AskRole.QUERY, "cat") for i in range(1, 601)])
    measured: list[tuple[object, object]] = []
    sent: list[str] = []

    def quality(prediction: object, target: object) -> float:
        measured.append((prediction, target))
        return 0.5

    def note(_connection, _cursor, statement: str, *_: object) -> None:
        sent.append(statement)

    answers = [change(i, answer=Answer.LABELED, target="cat") for i in range(1, 601)]
    event.listen(store.engine, "before_cursor_execute", note)
    tasks.apply(answers, quality)
    event.remove(store.engine, "before_cursor_execute", note)
    assert measured == [("cat", "cat")] * 600
    assert len(sent) < 30, "not a statement for each task"
    assert set(qualities(store).values()) == {0.5}
    tasks.apply(answers, quality)
    assert len(measured) == 600, "the targets are the same"


@pytest.mark.parametrize("target", ["cat", "Käse \"1\" 'x' 🐈", "", ["a", "b"], [], {"b": [1.5, None], "a": True}])
def test_a_target_of_any_form_is_kept_as_canonical_text(store: Store, tasks, target: object) -> None:
    fill(tasks, 1)
    tasks.apply([change(1, answer=Answer.LABELED, target=target)])
    assert tasks.targets() == [(0, target, False)]
    with store.read() as session:
        assert session.scalar(text("SELECT target FROM task")) == canonical_json(target)
    tasks.apply([change(1)])
    with store.read() as session:
        assert session.scalar(text("SELECT count(*) FROM task WHERE target IS NULL")) == 1


def test_canonical_json_is_one_text_for_equal_values() -> None:
    assert canonical_json({"b": 1, "a": ["ü"]}) == canonical_json({"a": ["ü"], "b": 1}) == '{"a":["ü"],"b":1}'


def test_drawn_images_are_spread_over_tasks_of_any_size_and_always_the_same(store: Store, project: ProjectRow) -> None:
    tasks = store.of(project.id).tasks
    for first in (1, 2**31 - 1000):  # the last ids that a column takes
        ids = range(first, first + 1000)
        tasks.apply([TaskChange(task, f"{task}.png", None, Answer.NONE, None) for task in ids])
        assert tasks.to_fetch(0.0, 3) == [(task, f"{task}.png") for task in ids[:3]]
        drawn = [task for task, _ in tasks.to_fetch(0.0, 100, drawn=True)]
        assert drawn == [task for task, _ in tasks.to_fetch(0.0, 200, drawn=True)][:100]
        assert len(set(drawn)) == 100
        shares = np.histogram(np.array(drawn) - first, bins=4, range=(0, 1000))[0]
        assert shares.min() >= 12, "25 are expected in each quarter"
        assert len({task % 10 for task in drawn}) == 10, "no regular pattern"
        tasks.mark_gone(list(ids))


def test_references_are_those_of_the_tasks_that_have_one(store: Store, project: ProjectRow) -> None:
    tasks = store.of(project.id).tasks
    tasks.apply([
        TaskChange(1, "a.png", None, Answer.NONE, None),
        TaskChange(2, None, "no image", Answer.NONE, None),
        TaskChange(3, "c.png", None, Answer.NONE, None),
    ])  # fmt: skip
    assert sorted(tasks.references([3, 1, 2, 9])) == [(1, "a.png"), (3, "c.png")]
    assert tasks.references([]) == []
