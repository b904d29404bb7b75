"""The counts that writes keep, against a count of all rows, after every kind of write."""

import random
import time

import pytest
from sqlalchemy import delete, select

from backend.store import Answer, ProjectRow, Store
from backend.store.rounds import Ask
from backend.store.tables import AskRole, ImageState, TaskCountsRow, TaskRow
from backend.store.task_counts import RECENT_S, TaskCounts
from backend.store.tasks import Failure, TaskChange

ANSWERS = [(Answer.NONE, None), (Answer.LABELED, "cat"), (Answer.SKIPPED, None), (Answer.TIE, None)]


def recount(store: Store, key: int, now: float) -> TaskCounts:
    """Count all rows, and leave the stored counts as they were."""
    with store.write() as session:
        row = session.get_one(TaskCountsRow, key)
        kept = {column.name: getattr(row, column.name) for column in TaskCountsRow.__table__.columns}
        session.execute(delete(TaskCountsRow).where(TaskCountsRow.project_id == key))
    counts = store.of(key).tasks.counts(now)
    with store.write() as session:
        session.add(TaskCountsRow(**kept))
    return counts


def write_something(store: Store, key: int, dice: random.Random) -> None:
    ids = dice.sample(range(1, 31), 5)
    with store.read() as session:
        indices = [i for i in session.scalars(select(TaskRow.pool_index)) if i is not None]
        fresh = list(session.scalars(select(TaskRow.task_id).where(TaskRow.state == ImageState.NEW)))
    used = set(indices)
    tasks = store.of(key).tasks
    match dice.randrange(12):
        case 0 | 1:
            images = dice.choices(["a.png", "b.png", None], k=5)
            answers = dice.choices(ANSWERS, k=5)
            tasks.apply([TaskChange(i, im, None, *a) for i, im, a in zip(ids, images, answers, strict=True)])
        case 2:
            free = (index for index in range(100) if index not in used)
            tasks.images_fetched({task_id: next(free) for task_id in fresh})
        case 3:
            failures = [Failure("no", dice.choice([None, 5.0, 50.0]), dice.random() < 0.5) for _ in range(3)]
            tasks.images_failed(dict(zip(fresh, failures, strict=False)))
        case 4:
            tasks.set_losses({index: dice.random() for index in indices})
        case 5:
            tasks.set_batches({index: dice.randrange(3) for index in indices})
        case 6:
            tasks.batch_recorded(ids, dice.randrange(3))
        case 7:
            tasks.losses_recorded(dict.fromkeys(ids, 0.5))
        case 8:
            tasks.mark_gone(ids[:2])
        case 9:
            number = dice.randrange(1000)
            store.of(key).rounds.plan(number, f"v{number}", [Ask(i, 0.1, AskRole.HOLDOUT) for i in ids])
        case 10:
            dice.choice([tasks.clear_losses, tasks.clear_batches, tasks.refetch_all, tasks.retry_broken])()
            store.of(key).rounds.forget()
        case 11:
            dice.choice([tasks.note_measured, tasks.note_measured, tasks.forget_measured])()


@pytest.mark.parametrize(
    ("store", "seed"), [*(("sqlite", seed) for seed in range(8)), ("postgresql", 0)], indirect=["store"]
)
def test_stored_counts_are_right_after_any_writes(store: Store, project: ProjectRow, seed: int) -> None:
    dice = random.Random(seed)
    store.of(project.id).tasks.apply([TaskChange(i, "a.png", None, Answer.NONE, None) for i in range(1, 31)])
    for _ in range(40):
        write_something(store, project.id, dice)
        assert store.of(project.id).tasks.counts(10.0) == recount(store, project.id, 10.0)


def test_planning_a_round_leaves_the_counts_right(store: Store, project: ProjectRow) -> None:
    store.of(project.id).tasks.apply([TaskChange(i, "a.png", None, Answer.NONE, None) for i in range(1, 4)])
    store.of(project.id).tasks.images_fetched({1: 0, 2: 1, 3: 2})
    store.of(project.id).rounds.plan(0, "pt4al-r000", [Ask(1, 0.1, AskRole.HOLDOUT), Ask(2, 0.2, AskRole.QUERY)])
    store.of(project.id).tasks.apply([TaskChange(i, "a.png", None, Answer.LABELED, "cat") for i in (1, 2)])
    store.of(project.id).rounds.plan(1, "pt4al-r001", [Ask(3, 0.1, AskRole.HOLDOUT)])
    counts = store.of(project.id).tasks.counts(0.0)
    assert counts == recount(store, project.id, 0.0)
    assert (counts.labeled, counts.trainable) == (2, 1)


def test_recent_counts_first_answers_of_the_last_seconds(store: Store, project: ProjectRow) -> None:
    # Labels from before the project was known say nothing about anybody's pace.
    store.of(project.id).tasks.apply([TaskChange(1, "a.png", None, Answer.LABELED, "cat")])
    store.of(project.id).tasks.apply([TaskChange(2, "a.png", None, Answer.NONE, None)])
    assert store.of(project.id).tasks.counts(time.time()).recent == 0
    store.of(project.id).tasks.apply([TaskChange(2, "a.png", None, Answer.SKIPPED, None)])
    assert store.of(project.id).tasks.counts(time.time()).recent == 1
    assert store.of(project.id).tasks.counts(time.time() + RECENT_S + 1).recent == 0
