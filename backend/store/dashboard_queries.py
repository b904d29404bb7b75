"""What the dashboard and the metrics show beyond the loop's own needs. Reads only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import case, func, select

from backend.chunks import chunks
from backend.store.base import IN_LIMIT, Repository, scatter, unindexed
from backend.store.tables import Answer, AskRole, AskRow, AskState, ImageState, TaskRow

LINES = 2000  # read at once
GIVEN = tuple(answer for answer in Answer if answer != Answer.NONE)  # by name: the index knows no "other than"


@dataclass(frozen=True)
class Asked:
    """What one round asked of one class and role, by the annotators' answers."""

    round: int
    role: AskRole
    label: str
    images: int
    predicted: int  # of these, how many a model had a guess about when they were asked
    wrong: int  # and how many of those guesses the annotators did not share


@dataclass(frozen=True)
class QueuedImage:
    """An image that waits for its answer, in serving order, with what the model guessed when it was asked."""

    task_id: int
    pool_index: int
    label: str | None
    confidence: float | None
    loss: float | None
    batch: int | None
    random: bool = False  # it measures the model, and was drawn, not chosen


@dataclass(frozen=True)
class ImageLine:
    """An image of the pool with all that is known of it, as a line of a table."""

    task_id: int
    image: str
    pool_index: int
    loss: float | None
    batch: int | None
    answer: Answer
    label: str | None


@dataclass(frozen=True)
class LossTable:
    """Losses and batches of the living pool; every array (n,), by pool index."""

    pool_index: NDArray[np.int64]
    loss: NDArray[np.float32]  # NaN: none yet
    batch: NDArray[np.int64]  # -1: none yet


@dataclass(frozen=True)
class PoolAnswers:
    """Who is in the pool and still without an answer; both (N,), by pool index.

    Images that wait to measure the model do not count as unlabeled: its guess is no answer to measure it by.
    """

    task_id: NDArray[np.int64]  # -1: nobody
    unlabeled: NDArray[np.bool_]


class DashboardQueries(Repository):
    """Aggregates over one project."""

    def asked(self) -> list[Asked]:
        """Count what was asked and labeled, and the model's errors about it at that time.

        A task that nobody got to in one round may be asked again in a later one: its answer belongs to that one alone.
        """
        last = (
            select(AskRow.task_id, func.max(AskRow.round).label("round"))
            .where(AskRow.project_id == self.project_id, AskRow.state == AskState.POSTED)
            .group_by(AskRow.task_id)
            .subquery()
        )
        groups = (AskRow.round, AskRow.role, TaskRow.label)
        wrong = func.sum(case((AskRow.label != TaskRow.label, 1), else_=0))
        query = (
            select(*groups, func.count(), func.count(AskRow.label), wrong)
            .select_from(AskRow)
            .join(last, (last.c.task_id == AskRow.task_id) & (last.c.round == AskRow.round))
            .join(TaskRow, _same_task())
            .where(
                AskRow.project_id == self.project_id,
                AskRow.state == AskState.POSTED,
                TaskRow.answer == Answer.LABELED,
                TaskRow.label.is_not(None),
            )
            .group_by(*groups)
            .order_by(*groups)
        )
        with self._read() as session:
            return [
                Asked(number, AskRole(role), label or "", images, predicted, int(wrong))
                for number, role, label, images, predicted, wrong in session.execute(query)
            ]

    def answers(self) -> dict[Answer, int]:
        """Count the tasks that have an answer, by its kind; deleted tasks have none."""
        query = (
            select(TaskRow.answer, func.count())
            .where(TaskRow.project_id == self.project_id, TaskRow.answer.in_(GIVEN))
            .group_by(TaskRow.answer)
        )
        with self._read() as session:
            return {Answer(answer): images for answer, images in session.execute(query)}

    def queue(self, number: int, limit: int) -> list[QueuedImage]:
        """List the first images of a round's queue, in serving order."""
        columns = (TaskRow.task_id, TaskRow.pool_index, AskRow.label, AskRow.confidence, TaskRow.loss, TaskRow.batch)
        query = (
            select(*columns, AskRow.role)
            .join(AskRow, _same_task())
            .where(
                AskRow.project_id == self.project_id,
                AskRow.round == number,
                AskRow.state == AskState.POSTED,
                TaskRow.state == ImageState.OK,
                TaskRow.answer == Answer.NONE,
                TaskRow.pool_index.is_not(None),
            )
            .order_by(AskRow.rank)
            .limit(limit)
        )
        with self._read() as session:
            return [
                QueuedImage(task_id, index, label, confidence, loss, batch, role == AskRole.HOLDOUT)
                for task_id, index, label, confidence, loss, batch, role in session.execute(query)
                if index is not None
            ]

    def losses(self, step: int = 1) -> LossTable:
        """Give loss and batch of every image in the bank, or of every ``step``-th."""
        query = (
            select(TaskRow.pool_index, TaskRow.loss, TaskRow.batch)
            .where(
                TaskRow.project_id == self.project_id, TaskRow.state == ImageState.OK, TaskRow.pool_index % step == 0
            )
            .order_by(TaskRow.pool_index)
        )
        with self._read() as session:
            rows = session.execute(query).all()
        index, loss, batch = zip(*rows, strict=True) if rows else ((), (), ())
        return LossTable(
            np.array(index, np.int64),
            np.array([np.nan if value is None else value for value in loss], np.float32),
            np.array([-1 if value is None else value for value in batch], np.int64),
        )

    def pool(self, size: int) -> PoolAnswers:
        """Give the first ``size`` indices of the pool, without holding its rows in memory."""
        found = PoolAnswers(np.full(size, -1, np.int64), np.zeros(size, np.bool_))
        query = select(TaskRow.pool_index, TaskRow.task_id, (TaskRow.answer == Answer.NONE) & ~TaskRow.holdout).where(
            TaskRow.project_id == self.project_id, TaskRow.state == ImageState.OK, TaskRow.pool_index < size
        )
        with self._read() as session:
            scatter(session, query, LINES, found.task_id, found.unlabeled)
        return found

    def lines(self) -> Iterator[ImageLine]:
        """Yield the images of the pool by task id, some at a time, so that memory does not grow with their number."""
        last: int | None = -1
        while last is not None:
            part = self._lines_after(last)
            yield from part
            last = part[-1].task_id if len(part) == LINES else None

    def _lines_after(self, task_id: int) -> list[ImageLine]:
        columns = (TaskRow.task_id, TaskRow.image, TaskRow.pool_index, TaskRow.loss, TaskRow.batch, TaskRow.answer)
        query = (
            select(*columns, TaskRow.label)
            .where(
                TaskRow.project_id == self.project_id,
                TaskRow.task_id > task_id,
                TaskRow.state == ImageState.OK,
                TaskRow.pool_index.is_not(None),
            )
            .order_by(TaskRow.task_id)
            .limit(LINES)
        )
        with self._read() as session:
            return [
                ImageLine(task, image or "", index, loss, batch, Answer(answer), label)
                for task, image, index, loss, batch, answer, label in session.execute(query)
                if index is not None
            ]

    def labeled(self) -> NDArray[np.int64]:
        """Give the pool indices (n,) of all labeled images, rising."""
        with self._read() as session:
            rows = session.scalars(
                _labeled(self.project_id, TaskRow.pool_index).order_by(unindexed(TaskRow.pool_index))
            ).all()
        return np.array(rows, np.int64)

    def holdout(self) -> list[tuple[int, str]]:
        """List (pool_index, label) of the labeled holdout."""
        query = _labeled(self.project_id, TaskRow.pool_index, TaskRow.label).where(
            TaskRow.holdout, TaskRow.label.is_not(None)
        )
        with self._read() as session:
            return [(index, label) for index, label in session.execute(query.order_by(unindexed(TaskRow.pool_index)))]

    def task_ids(self, pool_indices: Sequence[int]) -> dict[int, int]:
        """Give the task id by pool index, for those that have one."""
        found: dict[int, int] = {}
        with self._read() as session:
            for part in chunks(pool_indices, IN_LIMIT):
                rows = session.execute(
                    select(TaskRow.pool_index, TaskRow.task_id).where(
                        TaskRow.project_id == self.project_id,
                        TaskRow.pool_index.in_(part),
                        TaskRow.state == ImageState.OK,
                    )
                )
                found.update({index: task_id for index, task_id in rows if index is not None})
        return found


def _labeled(project_id: int, *columns: Any) -> Any:
    return select(*columns).where(
        TaskRow.project_id == project_id,
        TaskRow.answer == Answer.LABELED,
        unindexed(TaskRow.state) == ImageState.OK,
        unindexed(TaskRow.pool_index).is_not(None),
    )


def _same_task() -> Any:
    return (TaskRow.project_id == AskRow.project_id) & (TaskRow.task_id == AskRow.task_id)
