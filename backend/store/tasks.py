"""Tasks: images, answers and the pool; see ``task_losses`` for losses and batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Boolean, ColumnElement, bindparam, case, cast, func, or_, select, update

from backend.chunks import chunks
from backend.store.base import IN_LIMIT, scatter, unindexed
from backend.store.tables import Answer, ImageState, ProjectRow, TaskCountsRow, TaskRow
from backend.store.task_changes import Quality, TaskChange, exact_match, write_changes, write_qualities
from backend.store.task_counts import TaskCounts, read_counts, updating_counts
from backend.store.task_losses import TaskLosses, Unrecorded
from backend.store.task_writes import set_columns
from model.problems.base import Target

__all__ = ["Failure", "PoolView", "TaskChange", "Tasks", "Unrecorded"]

LINES = 2000  # rows read at once
_FACTOR, _PRIME = 1_327_217_885, 2_147_483_647  # the golden part of a prime: close numbers end far apart


@dataclass(frozen=True)
class Failure:
    """Why an image could not be fetched.

    retry_at: time of the next try; None for never, unless a person asks for it. quarantined: it is listed as broken
    meanwhile, and nothing waits for it.
    """

    reason: str
    retry_at: float | None
    quarantined: bool


@dataclass(frozen=True)
class PoolView:
    """The pool as arrays by ``pool_index``; rows of dead or missing images have ``task_id`` -1.

    Shapes: every array (N,).
    """

    task_id: NDArray[np.int64]
    loss: NDArray[np.float32]  # NaN: none yet
    batch: NDArray[np.int64]  # -1: none yet
    available: NDArray[np.bool_]
    labeled: NDArray[np.bool_]
    holdout: NDArray[np.bool_]


class Tasks(TaskLosses):
    """Queries over tasks of one project."""

    def apply(self, changes: Sequence[TaskChange], quality: Quality = exact_match) -> None:
        """Write what a synchronisation has read; a task with a new or another image reference is fetched (again).

        quality: of a prediction for a target, as ``Problem.quality``. It is written with the predictions of the tasks
        whose target has changed.
        """
        with self._write() as session:
            write_changes(session, self.project_id, changes, quality)

    def known(self) -> set[int]:
        """Return the ids of all tasks that are not gone."""
        with self._read() as session:
            return set(
                session.scalars(
                    select(TaskRow.task_id).where(
                        TaskRow.project_id == self.project_id, TaskRow.state != ImageState.GONE
                    )
                )
            )

    def mark_gone(self, missing: Sequence[int]) -> int:
        """Mark tasks that are missing in Label Studio as gone; return how many."""
        with self._write() as session:
            unanswered = {"answer": Answer.NONE, "target": None, "refusal": None, "accepted": False, "left_out": 0}
            gone = {"state": ImageState.GONE, "pool_index": None, **unanswered}
            set_columns(session, self.project_id, missing, gone)
            write_qualities(session, self.project_id, dict.fromkeys(missing), exact_match)
        return len(missing)

    def references(self, task_ids: Sequence[int]) -> list[tuple[int, str]]:
        """Return (task_id, image reference) of these tasks that have one, in no order."""
        found: list[tuple[int, str]] = []
        with self._read() as session:
            for part in chunks(task_ids, IN_LIMIT):
                rows = session.execute(
                    select(TaskRow.task_id, TaskRow.image).where(
                        TaskRow.project_id == self.project_id, TaskRow.task_id.in_(part), TaskRow.image.is_not(None)
                    )
                )
                found += [(int(task_id), image) for task_id, image in rows if image is not None]
        return found

    def to_fetch(self, now: float, limit: int, *, drawn: bool = False) -> list[tuple[int, str]]:
        """Return (task_id, image reference) of images that are to be fetched now, at most ``limit``.

        drawn: they are spread over the whole pool, the same ones for the same tasks; else they are the first ones.
        """
        order = _drawn() if drawn else TaskRow.task_id
        due = or_(TaskRow.retry_at.is_(None), TaskRow.retry_at <= now)
        return self._references(ImageState.NEW, due, order, limit)

    def renewed(self, now: float, limit: int) -> list[tuple[int, str]]:
        """Return (task_id, image reference) of images in use whose reference has changed since they were fetched."""
        return self._references(ImageState.OK, TaskRow.retry_at <= now, TaskRow.retry_at, limit)

    def _references(self, state: ImageState, due: Any, order: Any, limit: int) -> list[tuple[int, str]]:
        query = (
            select(TaskRow.task_id, TaskRow.image)
            .where(TaskRow.project_id == self.project_id, TaskRow.state == state, due)
            .order_by(order, TaskRow.task_id)
            .limit(limit)
        )
        with self._read() as session:
            return [(task_id, image or "") for task_id, image in session.execute(query)]

    def drawn(self, limit: int) -> list[tuple[int, str]]:
        """Return (task_id, image reference) of images that are in the bank or to be fetched, spread over the pool."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.task_id, TaskRow.image)
                .where(
                    TaskRow.project_id == self.project_id,
                    TaskRow.state.in_((ImageState.OK, ImageState.NEW)),
                    TaskRow.image.is_not(None),
                )
                .order_by(_drawn(), TaskRow.task_id)
                .limit(limit)
            )
            return [(task_id, image or "") for task_id, image in rows]

    def note_measured(self, stale: str | None = None) -> None:
        """Note that the sides are those that the present pool asks for, or why they are not (``stale``)."""
        with self._write() as session:
            counts = session.get(TaskCountsRow, self.project_id, with_for_update=True)
            alive = (TaskRow.project_id == self.project_id, TaskRow.state != ImageState.GONE)
            newest = session.scalar(select(func.max(TaskRow.task_id)).where(*alive))
            project = session.get_one(ProjectRow, self.project_id)
            highest = session.scalar(select(func.max(TaskRow.pool_index)).where(TaskRow.project_id == self.project_id))
            project.measured_rows = 0 if highest is None else int(highest) + 1
            project.measured_to, project.stale = newest, stale
            if counts is not None:
                counts.later = 0

    def newest_answered(self) -> int | None:
        """Return the task whose first answer was read last, of those that have one still."""
        query = (
            select(TaskRow.task_id)
            .where(
                TaskRow.project_id == self.project_id,
                TaskRow.answered_at.is_not(None),
                unindexed(TaskRow.answer) != Answer.NONE,
                unindexed(TaskRow.state) != ImageState.GONE,
            )
            .order_by(TaskRow.answered_at.desc())
            .limit(1)
        )
        with self._read() as session:
            return session.scalar(query)

    def from_row(self, first: int) -> int:
        """Return the number of images in use whose pool index is ``first`` or higher."""
        rows = select(func.count()).where(
            TaskRow.project_id == self.project_id,
            unindexed(TaskRow.state) == ImageState.OK,
            TaskRow.pool_index >= first,
        )
        with self._read() as session:
            return int(session.scalar(rows) or 0)

    def images_fetched(self, pool_indices: Mapping[int, int], refs: Mapping[int, str] | None = None) -> None:
        """Note that images are in the bank: ``pool_indices`` by task id, fetched from ``refs``.

        A task that was deleted, or whose image reference changed meanwhile, stays as it is. Loss and batch stay where
        the place in the bank does.
        """
        same = TaskRow.pool_index == bindparam("pool_index")
        self._update(
            [
                {"t": task_id, "pool_index": index, "state": ImageState.OK, "reason": None, "retry_at": None}
                for task_id, index in pool_indices.items()
            ],
            refs,
            loss=case((same, TaskRow.loss)),
            batch=case((same, TaskRow.batch)),
        )

    def images_failed(self, failures: Mapping[int, Failure], refs: Mapping[int, str] | None = None) -> None:
        """Note failures by task id; ``refs`` as above. An image in use stays so until it is quarantined."""
        self._update(
            [
                {
                    "t": task_id,
                    "quarantined": failure.quarantined,
                    "reason": failure.reason,
                    "retry_at": failure.retry_at,
                }
                for task_id, failure in failures.items()
            ],
            refs,
            state=case((bindparam("quarantined", type_=Boolean()), ImageState.BROKEN), else_=TaskRow.state),
            attempts=TaskRow.attempts + 1,
        )

    def attempts(self, task_ids: Sequence[int]) -> dict[int, int]:
        """Return how often each task's image has failed."""
        attempts = dict.fromkeys(task_ids, 0)
        with self._read() as session:
            for part in chunks(task_ids, IN_LIMIT):
                rows = session.execute(
                    select(TaskRow.task_id, TaskRow.attempts).where(
                        TaskRow.project_id == self.project_id, TaskRow.task_id.in_(part)
                    )
                )
                attempts.update({int(task_id): int(number) for task_id, number in rows})
        return attempts

    def retry_due(self, now: float) -> int:
        """Take out of quarantine the images whose time to retry has come; return how many."""
        due = (TaskRow.project_id == self.project_id, TaskRow.state == ImageState.BROKEN, TaskRow.retry_at <= now)
        with self._read() as session:
            task_ids = session.scalars(select(TaskRow.task_id).where(*due)).all()
        if task_ids:
            self._set(task_ids, state=ImageState.NEW, retry_at=None)
        return len(task_ids)

    def retry_broken(self) -> int:
        """Take all images out of quarantine for another try; return how many."""
        with self._write() as session, updating_counts(session, self.project_id):
            result = session.execute(
                update(TaskRow)
                .where(
                    TaskRow.project_id == self.project_id,
                    TaskRow.state == ImageState.BROKEN,
                    TaskRow.image.is_not(None),
                )
                .values(state=ImageState.NEW, reason=None, retry_at=None, attempts=0)
            )
            return int(result.rowcount)  # type: ignore[attr-defined]

    def broken(self, limit: int = 1000) -> list[tuple[int, str]]:
        """Return (task_id, reason) of quarantined images."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.task_id, TaskRow.reason)
                .where(TaskRow.project_id == self.project_id, TaskRow.state == ImageState.BROKEN)
                .order_by(unindexed(TaskRow.task_id))
                .limit(limit)
            )
            return [(task_id, reason or "") for task_id, reason in rows]

    def counts(self, now: float) -> TaskCounts:
        """Return the number of tasks in each condition; images that wait for a retry do not count as new."""
        with self._read() as session:
            return read_counts(session, self.project_id, now)

    def in_use(self, size: int) -> NDArray[np.bool_] | None:
        """Tell of each of the first ``size`` pool indices whether a task has it, (size,); None where all are."""
        query = select(TaskRow.pool_index).where(
            TaskRow.project_id == self.project_id, TaskRow.pool_index.is_not(None), TaskRow.pool_index < size
        )
        with self._read() as session:
            if session.scalar(select(func.count()).select_from(query.subquery())) == size:
                return None
            used = np.zeros(size, np.bool_)
            for part in session.connection().execute(query.execution_options(yield_per=LINES)).partitions():
                used[np.array([index for (index,) in part], np.int64)] = True
        return used

    def pool_size(self) -> int:
        """Return one more than the highest pool index in use."""
        with self._read() as session:
            highest = session.scalar(select(func.max(TaskRow.pool_index)).where(TaskRow.project_id == self.project_id))
        return 0 if highest is None else int(highest) + 1

    def pool(self, size: int) -> PoolView:
        """Return the pool as arrays of ``size`` rows, without holding its database rows in memory."""
        view = PoolView(
            task_id=np.full(size, -1, np.int64),
            loss=np.full(size, np.nan, np.float32),
            batch=np.full(size, -1, np.int64),
            available=np.zeros(size, np.bool_),
            labeled=np.zeros(size, np.bool_),
            holdout=np.zeros(size, np.bool_),
        )
        query = select(
            TaskRow.pool_index,
            TaskRow.task_id,
            TaskRow.loss,
            func.coalesce(TaskRow.batch, -1),
            TaskRow.answer == Answer.NONE,
            TaskRow.answer == Answer.LABELED,
            TaskRow.holdout,
        ).where(TaskRow.project_id == self.project_id, TaskRow.state == ImageState.OK, TaskRow.pool_index < size)
        with self._read() as session:
            scatter(
                session, query, LINES, view.task_id, view.loss, view.batch, view.available, view.labeled, view.holdout
            )
        return view

    def targets(self) -> list[tuple[int, Target, bool]]:
        """Return (pool_index, target, holdout) of every labeled image, by pool index."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.pool_index, TaskRow.target, TaskRow.holdout)
                .where(
                    TaskRow.project_id == self.project_id,
                    unindexed(TaskRow.state) == ImageState.OK,
                    TaskRow.answer == Answer.LABELED,
                    TaskRow.target.is_not(None),
                )
                .order_by(unindexed(TaskRow.pool_index))
            )
            return [(index, target, holdout) for index, target, holdout in rows if index is not None]

    def pool_indices(self, task_ids: Sequence[int]) -> dict[int, int]:
        """Return the pool index by task id, for those that have one."""
        indices: dict[int, int] = {}
        with self._read() as session:
            for part in chunks(task_ids, IN_LIMIT):
                rows = session.execute(
                    select(TaskRow.task_id, TaskRow.pool_index).where(
                        TaskRow.project_id == self.project_id,
                        TaskRow.task_id.in_(part),
                        TaskRow.pool_index.is_not(None),
                    )
                )
                indices.update({task_id: index for task_id, index in rows if index is not None})
        return indices

    def forget_measured(self) -> None:
        """Note that the sides have to be chosen anew, from the pool that there is then."""
        with self._write() as session:
            counts = session.get(TaskCountsRow, self.project_id, with_for_update=True)
            project = session.get_one(ProjectRow, self.project_id)
            project.measured_to, project.measured_rows, project.stale = None, None, None
            if counts is not None:
                counts.later = 0

    def refetch_all(self) -> None:
        """Mark every image as to be fetched again, as when another image size is configured."""
        with self._write() as session, updating_counts(session, self.project_id):
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == self.project_id, TaskRow.state == ImageState.OK)
                .values(state=ImageState.NEW, retry_at=None, attempts=0)
            )
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == self.project_id, TaskRow.pool_index.is_not(None))
                .values(pool_index=None, loss=None, batch=None)
            )


def _drawn() -> ColumnElement[int]:
    """Return an order in which the first tasks are spread over the whole pool, the same for the same tasks."""
    # A multiplicative hash, squared so that its picks are no regular pattern. Both products stay within 64 bits.
    hashed = (cast(TaskRow.task_id, BigInteger) * _FACTOR) % _PRIME
    return (hashed * hashed) % _PRIME
