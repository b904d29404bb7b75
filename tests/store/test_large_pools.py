"""What keeps the store quick in a pool of a million: the index a statement goes by, short writes, and little memory."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from backend.store import Answer, AskRole, AskState, ProjectRow, Store
from backend.store.rounds import Ask
from backend.store.tables import TaskRow
from backend.store.tasks import TaskChange

POOL = 40
ON_SQLITE = pytest.mark.parametrize("store", ["sqlite"], indirect=True)  # whose plans are compared


@pytest.fixture
def filled(store: Store, project: ProjectRow) -> Store:
    """Tasks 1 to 40 at 0 to 39; 11 and 21 are labeled, 31 is skipped, 40 has no image."""
    store.of(project.id).tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in range(1, POOL)])
    store.of(project.id).tasks.images_fetched({i: i - 1 for i in range(1, POOL)})
    said = {11: (Answer.LABELED, "cat"), 21: (Answer.LABELED, "dog"), 31: (Answer.SKIPPED, None)}
    store.of(project.id).tasks.apply([TaskChange(i, "x", None, *answer) for i, answer in said.items()])
    store.of(project.id).tasks.apply([TaskChange(POOL, None, "no image", Answer.NONE, None)])
    return store


@pytest.fixture(params=["as made", "made the other way round"])
def indices(filled: Store, request: pytest.FixtureRequest) -> Store:
    """A migrated database has the indices in another order, which SQLite chooses by."""
    if request.param != "as made":
        with filled.write() as session:
            for index in sorted(TaskRow.__table__.indexes, key=lambda one: one.name or "", reverse=True):  # type: ignore[attr-defined]
                index.drop(session.connection())
            for index in sorted(TaskRow.__table__.indexes, key=lambda one: one.name or ""):  # type: ignore[attr-defined]
                index.create(session.connection())
    return filled


def plans(store: Store, work: Callable[[], Any], table: str = "task") -> list[str]:
    """Return how SQLite finds the rows of a table, for each statement on it that ``work`` sends."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        sent.append((statement, parameters[0] if many else parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
    found = []
    with store.read() as session:
        for statement, parameters in sent:
            if re.match(rf"(SELECT|UPDATE)\b.*\b{table}\b", statement, re.DOTALL):
                rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                found += [row[3] for row in rows if re.match(rf"(SEARCH|SCAN) {table}\b", row[3])]
    return found


@ON_SQLITE
@pytest.mark.parametrize(
    ("read", "index"),
    [
        (lambda store, key: store.of(key).tasks.broken(1), "task_by_state (project_id=? AND state=?)"),
        (
            lambda store, key: store.of(key).tasks.renewed(0.0, 1),
            "task_by_retry_at (project_id=? AND state=? AND retry_at<?)",
        ),
        (lambda store, key: store.of(key).tasks.targets(), "task_by_answer (project_id=? AND answer=?)"),
        (lambda store, key: store.of(key).dashboard.labeled(), "task_by_answer (project_id=? AND answer=?)"),
        (lambda store, key: store.of(key).dashboard.holdout(), "task_by_answer (project_id=? AND answer=?)"),
        (lambda store, key: store.of(key).dashboard.answers(), "task_by_answer (project_id=? AND answer=?)"),
    ],
)
def test_few_tasks_are_found_by_what_makes_them_few(indices: Store, project, read: Any, index: str) -> None:
    (plan,) = plans(indices, lambda: read(indices, project.id))
    assert plan.endswith(index)


@ON_SQLITE
def test_of_new_images_only_those_that_wait_are_counted(indices: Store, project: ProjectRow) -> None:
    indices.of(project.id).tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in range(51, 60)])
    waiting, renewed, recent = plans(indices, lambda: indices.of(project.id).tasks.counts(0.0))
    assert waiting.endswith("task_by_retry_at (project_id=? AND state=? AND retry_at>?)")
    assert "task_by_retry_at (project_id=? AND state=? AND retry_at" in renewed
    assert recent.endswith("task_by_answered_at (project_id=? AND answered_at>?)")


@ON_SQLITE
def test_a_round_is_planned_without_looking_at_the_whole_pool(indices: Store, project: ProjectRow) -> None:
    asks = [Ask(1, 0.1, AskRole.HOLDOUT), Ask(2, 0.2, AskRole.QUERY)]
    found = plans(indices, lambda: indices.of(project.id).rounds.plan(0, "r0", asks))
    assert len(found) == 2  # the former holdout, and the new one
    assert all(plan.endswith("(project_id=? AND task_id=?)") for plan in found)


@ON_SQLITE
def test_qualities_are_written_without_reading_the_other_asks(indices: Store, project: ProjectRow) -> None:
    indices.of(project.id).rounds.plan(0, "r0", [Ask(i, 0.1, AskRole.QUERY, "cat") for i in (1, 2, 3)])
    change = TaskChange(2, "x", None, Answer.LABELED, "cat")
    read, write = plans(indices, lambda: indices.of(project.id).tasks.apply([change]), "ask")
    assert read.endswith("ask_by_task (project_id=? AND task_id=?)")
    assert write.endswith("(project_id=? AND round=? AND task_id=?)")


@ON_SQLITE
def test_losses_are_counted_by_the_part_that_is_written(indices: Store, project: ProjectRow) -> None:
    found = plans(indices, lambda: indices.of(project.id).tasks.set_losses({0: 0.5, 9: 0.25}))
    assert len(found) == 3
    assert sum("pool_index>?" in plan for plan in found) == 2, "the count before and after"
    assert all("task_by_pool_index" in plan for plan in found)


def test_a_large_pool_is_written_in_parts_between_which_others_have_their_turn(
    filled: Store, project: ProjectRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def another_process(pause: float) -> None:
        seen.append(filled.of(project.id).tasks.counts(0.0).unscored)
        filled.projects.set(project.id, notice=f"waited {pause}")  # would fail if the transaction were still open

    monkeypatch.setattr("backend.store.task_losses.PART", 10)
    monkeypatch.setattr("backend.store.task_losses.time.sleep", another_process)
    losses = {i: 1 / (i + 1) for i in range(POOL - 1)}
    filled.of(project.id).tasks.set_losses(dict(reversed(losses.items())))
    assert seen == [29, 19, 9]
    np.testing.assert_array_equal(
        filled.of(project.id).tasks.pool(POOL).loss, np.array([*losses.values(), np.nan], np.float32)
    )
    filled.of(project.id).tasks.set_batches({0: 1, 38: 2})  # far apart: what lies between is not counted
    counts = filled.of(project.id).tasks.counts(0.0)
    assert (counts.unscored, counts.unsplit, counts.askable) == (0, POOL - 3, 2)


def test_a_small_pool_is_written_at_once(filled: Store, project: ProjectRow, monkeypatch: pytest.MonkeyPatch) -> None:
    def pause(_seconds: float) -> None:
        raise AssertionError("nobody waits")

    monkeypatch.setattr("backend.store.task_losses.time.sleep", pause)
    filled.of(project.id).tasks.set_losses(dict.fromkeys(range(POOL - 1), 0.5))


@pytest.mark.parametrize("lines", [1, 7, 39, 1000])
def test_the_pool_is_the_same_however_many_rows_are_read_at_once(
    filled: Store, project: ProjectRow, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    monkeypatch.setattr("backend.store.tasks.LINES", lines)
    filled.of(project.id).rounds.plan(0, "r0", [Ask(21, 0.1, AskRole.HOLDOUT), Ask(2, 0.2, AskRole.HOLDOUT)])
    filled.of(project.id).tasks.set_batches({3: 4, 38: 0})
    pool = filled.of(project.id).tasks.pool(POOL)
    assert pool.task_id.tolist() == [*range(1, POOL), -1]
    assert np.flatnonzero(pool.labeled).tolist() == [10, 20]
    assert np.flatnonzero(~pool.available).tolist() == [10, 20, 30, 39]
    assert np.flatnonzero(pool.holdout).tolist() == [1]  # 21 had its answer already
    assert {i: int(pool.batch[i]) for i in np.flatnonzero(pool.batch >= 0)} == {3: 4, 38: 0}
    assert np.isnan(pool.loss).all()


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_unrecorded_tasks_come_from_the_highest_loss_down_no_more_than_wanted(
    filled: Store, project: ProjectRow, limit: int
) -> None:
    filled.of(project.id).tasks.set_losses({8: 0.5, 2: 0.25, 5: 0.75, 4: 9.0})
    filled.of(project.id).tasks.set_batches({8: 0, 2: 1, 5: 0})
    filled.of(project.id).tasks.batch_recorded([6], 0)
    found = [tuple(task) for task in filled.of(project.id).tasks.unrecorded(limit)]
    assert found == [(6, 0.75, 0, None, 0), (9, 0.5, 0, None, None), (3, 0.25, 1, None, None)][:limit]


def test_what_is_recorded_does_not_come_again(filled: Store, project: ProjectRow) -> None:
    losses = {i: 1 / (i + 1) for i in range(POOL - 1)}
    filled.of(project.id).tasks.set_losses(losses)
    filled.of(project.id).tasks.set_batches(dict.fromkeys(losses, 0))
    seen = []
    while part := filled.of(project.id).tasks.unrecorded(10):
        filled.of(project.id).tasks.batch_recorded([task.task_id for task in part], 0)
        filled.of(project.id).tasks.losses_recorded({task.task_id: task.loss for task in part})
        seen += [task.task_id for task in part]
    assert seen == list(range(1, POOL))


@ON_SQLITE
def test_the_next_to_be_recorded_are_found_without_looking_at_the_others(indices: Store, project: ProjectRow) -> None:
    found = plans(indices, lambda: indices.of(project.id).tasks.unrecorded(10))
    assert [plan.split(" USING ")[1] for plan in found] == ["INDEX task_unrecorded (project_id=?)"]


def test_a_dropped_round_frees_its_holdout(filled: Store, project: ProjectRow) -> None:
    filled.of(project.id).rounds.plan(0, "r0", [Ask(1, 0.1, AskRole.HOLDOUT), Ask(2, 0.2, AskRole.QUERY)])
    filled.of(project.id).rounds.drop(0)
    assert filled.of(project.id).rounds.asks(0, states=list(AskState)) == []
    assert not filled.of(project.id).tasks.pool(POOL).holdout.any()
