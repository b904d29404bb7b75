"""Writing what a synchronisation has read of tasks: images, answers, and the quality of the predictions for them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from backend.chunks import chunks
from backend.store.base import IN_LIMIT
from backend.store.tables import Answer, AskRow, ImageState, Refused, TaskRow
from backend.store.task_counts import updating_counts
from model.problems.base import Prediction, Target

_UNGIVEN = (Answer.NONE, Answer.MODEL)  # by a person, whose pace is measured
NOW = 0.0  # a time that has come
Quality = Callable[[Prediction, Target], float]


@dataclass(frozen=True)
class TaskChange:
    """What a synchronisation has read of one task.

    image: its reference; None with the ``reason`` why there is none. target: None unless ``answer`` is LABELED.
    refusal: None unless ``answer`` is UNUSABLE. accepted: a person took a prediction over as it was. left_out: things
    that some annotators marked and on which they do not agree: they are not in the target. orphaned: nothing
    tells any more whether the answer is a person's; what was known of it before holds. bare: its data have no loss and
    batch in Label Studio, as after somebody has replaced them.
    """

    task_id: int
    image: str | None
    reason: str | None
    answer: Answer
    target: Target | None
    refusal: Refused | None = None
    accepted: bool = False
    left_out: int = 0
    orphaned: bool = False
    bare: bool = False


def exact_match(prediction: Prediction, target: Target) -> float:
    """Return 1 if a prediction equals a target, else 0."""
    return float(prediction == target)


def write_changes(session: Session, project_id: int, changes: Sequence[TaskChange], quality: Quality) -> None:
    """Write changes within a transaction, and the quality of the predictions for tasks whose target has changed."""
    for part in chunks(changes, IN_LIMIT):
        ids = [change.task_id for change in part]
        with updating_counts(session, project_id, ids):
            query = select(TaskRow).where(TaskRow.project_id == project_id, TaskRow.task_id.in_(ids))
            stored = {row.task_id: row for row in session.scalars(query)}
            targets: dict[int, Target | None] = {}
            for change in part:
                row = stored.get(change.task_id)
                if row is None:
                    row = stored[change.task_id] = _new_row(project_id, change)
                    session.add(row)
                else:
                    before = _target(row)
                    _apply(row, change)
                    if before != _target(row):
                        targets[row.task_id] = _target(row)
            write_qualities(session, project_id, targets, quality)


def write_qualities(session: Session, project_id: int, targets: Mapping[int, Target | None], quality: Quality) -> None:
    """Write the quality of every prediction for these tasks, by task id; None for a task without a target.

    None also for a prediction of another type than the target: it was made before the project changed its problem.
    """
    rows = []
    for part in chunks(targets, IN_LIMIT):
        query = select(AskRow.round, AskRow.task_id, AskRow.prediction).where(
            AskRow.project_id == project_id, AskRow.task_id.in_(part), AskRow.prediction.is_not(None)
        )
        for number, task_id, prediction in session.execute(query):
            target = targets[task_id]
            comparable = target is not None and type(prediction) is type(target)
            rows.append({"n": number, "t": task_id, "q": quality(prediction, target) if comparable else None})
    if rows:
        statement = (
            update(AskRow.__table__)  # type: ignore[arg-type]
            .where(AskRow.project_id == project_id, AskRow.round == bindparam("n"), AskRow.task_id == bindparam("t"))
            .values(quality=bindparam("q"))
        )
        session.connection().execute(statement, rows)


def _target(row: TaskRow) -> Target | None:
    return row.target if row.answer == Answer.LABELED else None


def _new_row(project_id: int, change: TaskChange) -> TaskRow:
    row = TaskRow(project_id=project_id, task_id=change.task_id)
    _set_answer(row, change)
    _set_image(row, change)
    return row


def _apply(row: TaskRow, change: TaskChange) -> None:
    if row.image is not None and change.image is not None and row.state == ImageState.OK:
        if row.image != change.image:
            # Most often the same picture at a renewed address: it stays in use until it is fetched, and found another.
            row.image, row.attempts, row.retry_at = change.image, 0, NOW
    elif row.image != change.image or row.state == ImageState.GONE:
        _set_image(row, change)
    if change.bare:
        row.recorded_loss = row.recorded_batch = None
    if row.answer == Answer.MODEL and change.orphaned:
        return  # Label Studio forgets where an annotation comes from when the prediction is deleted
    if row.answer in _UNGIVEN and change.answer not in _UNGIVEN:
        row.answered_at = time.time()
    _set_answer(row, change)


def _set_answer(row: TaskRow, change: TaskChange) -> None:
    row.answer, row.target = change.answer, change.target
    row.refusal, row.accepted, row.left_out = change.refusal, change.accepted, change.left_out


def _set_image(row: TaskRow, change: TaskChange) -> None:
    """Note another reference. The place in the bank stays: the picture that is fetched may be the same."""
    row.image, row.reason = change.image, change.reason
    row.state = ImageState.BROKEN if change.image is None else ImageState.NEW
    row.attempts, row.retry_at = 0, None
