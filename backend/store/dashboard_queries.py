"""Reads for the dashboard, the exports and the metrics."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from backend.chunks import chunks
from backend.store.base import IN_LIMIT, Repository, scatter, unindexed
from backend.store.tables import Answer, AskRole, AskRow, AskState, ImageState, TaskRow, same_task
from backend.store.task_answers import Reason, reasons
from model.problems.base import Prediction, Target

LINES = 2000  # rows read at once
LONG_LINES = 100  # the same of rows with masks
GIVEN = tuple(answer for answer in Answer if answer != Answer.NONE)  # listed: an index does not serve "not equal"


@dataclass(frozen=True)
class AskedQuality:
    """The answered images that one round asked in one role, and how good the predictions for them were.

    images: with a target. predicted: of these, the images that had a prediction when they were asked. quality, squares:
    sums over the predicted images of the predictions' qualities and of their squares.
    """

    round: int
    role: AskRole
    images: int
    predicted: int
    quality: float
    squares: float


@dataclass(frozen=True)
class AskedTarget:
    """The number of images that one round asked in one role and that got one target."""

    round: int
    role: AskRole
    target: Target
    images: int


@dataclass(frozen=True)
class QueuedImage:
    """An image that waits for its answer, with the prediction of the model that asked for it.

    random: it belongs to the holdout.
    """

    task_id: int
    pool_index: int
    prediction: Prediction | None
    confidence: float | None
    loss: float | None
    batch: int | None
    random: bool = False


@dataclass(frozen=True)
class ImageLine:
    """An image of the pool, as a line of a table."""

    task_id: int
    image: str
    pool_index: int
    loss: float | None
    batch: int | None
    answer: Answer
    target: Target | None


@dataclass(frozen=True)
class LossTable:
    """Losses and batches of the images in the bank; every array (n,), by pool index."""

    pool_index: NDArray[np.int64]
    loss: NDArray[np.float32]  # NaN: none yet
    batch: NDArray[np.int64]  # -1: none yet


@dataclass(frozen=True)
class PoolAnswers:
    """Tasks of the pool, and which are without an answer; both (N,), by pool index.

    The holdout does not count as unlabeled: a prediction in place of its answer could not measure the model.
    """

    task_id: NDArray[np.int64]  # -1: no task
    unlabeled: NDArray[np.bool_]


class DashboardQueries(Repository):
    """Queries over one project for what people look at."""

    def asked_qualities(self) -> list[AskedQuality]:
        """Return, by round and role, the answered images and the quality of the predictions for them.

        Only the last ask of a task that was posted counts: the answer came while that round was served.
        """
        groups = (AskRow.round, AskRow.role)
        squares = func.sum(AskRow.quality * AskRow.quality)
        query = self._asked(groups, func.count(), func.count(AskRow.quality), func.sum(AskRow.quality), squares)
        with self._read() as session:
            return [
                AskedQuality(number, AskRole(role), images, predicted, quality or 0.0, squared or 0.0)
                for number, role, images, predicted, quality, squared in session.execute(query)
            ]

    def asked_targets(self) -> list[AskedTarget]:
        """Return, by round, role and target, the answered images; of a task's asks the same one counts."""
        query = self._asked((AskRow.round, AskRow.role, TaskRow.target), func.count())
        with self._read() as session:
            return [
                AskedTarget(number, AskRole(role), target, images)
                for number, role, target, images in session.execute(query)
            ]

    def each_asked_target(self) -> Iterator[AskedTarget]:
        """Yield the same an image at a time, in no order: long targets, hardly two equal, are not worth sorting."""
        query = self._asked((), AskRow.round, AskRow.role, TaskRow.target).execution_options(yield_per=LONG_LINES)
        with self._read() as session:
            for number, role, target in session.execute(query):
                yield AskedTarget(number, AskRole(role), target, 1)

    def _asked(self, groups: Sequence[Any], *columns: Any) -> Any:
        """Return the query over the last posted ask of each labeled task."""
        posted = (AskRow.project_id == self.project_id, AskRow.state == AskState.POSTED)
        last = (
            select(AskRow.task_id, func.max(AskRow.round).label("round"))
            .where(*posted)
            .group_by(AskRow.task_id)
            .subquery()
        )
        return (
            select(*groups, *columns)
            .select_from(AskRow)
            .join(last, (last.c.task_id == AskRow.task_id) & (last.c.round == AskRow.round))
            .join(TaskRow, same_task())
            .where(*posted, TaskRow.answer == Answer.LABELED, TaskRow.target.is_not(None))
            .group_by(*groups)
            .order_by(*groups)
        )

    def answers(self) -> Counter[Reason]:
        """Return the number of tasks by kind of answer; deleted tasks have none."""
        query = (
            select(TaskRow.answer, TaskRow.refusal, func.count())
            .where(TaskRow.project_id == self.project_id, TaskRow.answer.in_(GIVEN))
            .group_by(TaskRow.answer, TaskRow.refusal)
        )
        with self._read() as session:
            return reasons(session.execute(query).all())

    def accepted(self) -> int:
        """Return the number of labeled tasks whose answer is a prediction that a person took over as it was."""
        query = (
            select(func.count())
            .select_from(TaskRow)
            .where(TaskRow.project_id == self.project_id, TaskRow.answer == Answer.LABELED, TaskRow.accepted)
        )
        with self._read() as session:
            return int(session.scalar(query) or 0)

    def left_out(self) -> tuple[int, int]:
        """Return how many things that annotators marked are left out of the targets, and on how many tasks."""
        query = (
            select(func.coalesce(func.sum(TaskRow.left_out), 0), func.count())
            .select_from(TaskRow)
            .where(TaskRow.project_id == self.project_id, TaskRow.answer == Answer.LABELED, TaskRow.left_out > 0)
        )
        with self._read() as session:
            things, tasks = session.execute(query).one()
            return int(things), int(tasks)

    def queue(self, number: int, limit: int) -> list[QueuedImage]:
        """Return the first images of a round's queue, in serving order."""
        columns = (
            TaskRow.task_id,
            TaskRow.pool_index,
            AskRow.prediction,
            AskRow.confidence,
            TaskRow.loss,
            TaskRow.batch,
        )
        query = (
            select(*columns, AskRow.role)
            .join(AskRow, same_task())
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
                QueuedImage(task_id, index, prediction, confidence, loss, batch, role == AskRole.HOLDOUT)
                for task_id, index, prediction, confidence, loss, batch, role in session.execute(query)
                if index is not None
            ]

    def asked_prediction(self, number: int, pool_index: int) -> Prediction | None:
        """Return the prediction with which a round asked for an image; None without one, or where it did not ask."""
        query = (
            select(AskRow.prediction)
            .join(TaskRow, same_task())
            .where(AskRow.project_id == self.project_id, AskRow.round == number, TaskRow.pool_index == pool_index)
        )
        with self._read() as session:
            return session.scalar(query)

    def losses(self, step: int = 1) -> LossTable:
        """Return loss and batch of every image in the bank, or of every ``step``-th."""
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
        """Return the first ``size`` indices of the pool, without holding its database rows in memory."""
        pool = PoolAnswers(np.full(size, -1, np.int64), np.zeros(size, np.bool_))
        query = select(TaskRow.pool_index, TaskRow.task_id, (TaskRow.answer == Answer.NONE) & ~TaskRow.holdout).where(
            TaskRow.project_id == self.project_id, TaskRow.state == ImageState.OK, TaskRow.pool_index < size
        )
        with self._read() as session:
            scatter(session, query, LINES, pool.task_id, pool.unlabeled)
        return pool

    def lines(self) -> Iterator[ImageLine]:
        """Yield the images of the pool by task id; they are read ``LINES`` at a time, so that memory does not grow."""
        last: int | None = -1
        while last is not None:
            part = self._lines_after(last)
            yield from part
            last = part[-1].task_id if len(part) == LINES else None

    def _lines_after(self, task_id: int) -> list[ImageLine]:
        columns = (TaskRow.task_id, TaskRow.image, TaskRow.pool_index, TaskRow.loss, TaskRow.batch, TaskRow.answer)
        query = (
            select(*columns, TaskRow.target)
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
                ImageLine(task, image or "", index, loss, batch, Answer(answer), target)
                for task, image, index, loss, batch, answer, target in session.execute(query)
                if index is not None
            ]

    def labeled(self) -> NDArray[np.int64]:
        """Return the pool indices (n,) of all labeled images, ascending."""
        with self._read() as session:
            rows = session.scalars(
                _labeled(self.project_id, TaskRow.pool_index).order_by(unindexed(TaskRow.pool_index))
            ).all()
        return np.array(rows, np.int64)

    def holdout(self) -> list[tuple[int, Target]]:
        """Return (pool_index, target) of the labeled holdout, by pool index."""
        query = _labeled(self.project_id, TaskRow.pool_index, TaskRow.target).where(
            TaskRow.holdout, TaskRow.target.is_not(None)
        )
        with self._read() as session:
            return [(index, target) for index, target in session.execute(query.order_by(unindexed(TaskRow.pool_index)))]

    def has_two_targets(self, before: float) -> bool:
        """Return whether the labels that were there at a time differ; with two classes the first few tell."""
        query = _labeled(self.project_id, TaskRow.target).where(
            TaskRow.target.is_not(None), func.coalesce(unindexed(TaskRow.answered_at), 0.0) < before
        )
        with self._read() as session:
            first = session.scalar(query.limit(1))
            return first is not None and session.scalar(query.where(TaskRow.target != first).limit(1)) is not None

    def task_ids(self, pool_indices: Sequence[int]) -> dict[int, int]:
        """Return the task id by pool index, for those that have one."""
        task_ids: dict[int, int] = {}
        with self._read() as session:
            for part in chunks(pool_indices, IN_LIMIT):
                rows = session.execute(
                    select(TaskRow.pool_index, TaskRow.task_id).where(
                        TaskRow.project_id == self.project_id,
                        TaskRow.pool_index.in_(part),
                        TaskRow.state == ImageState.OK,
                    )
                )
                task_ids.update({index: task_id for index, task_id in rows if index is not None})
        return task_ids


def _labeled(project_id: int, *columns: Any) -> Any:
    return select(*columns).where(
        TaskRow.project_id == project_id,
        TaskRow.answer == Answer.LABELED,
        unindexed(TaskRow.state) == ImageState.OK,
        unindexed(TaskRow.pool_index).is_not(None),
    )
