"""Tasks: images, answers, losses, batches, and what of them Label Studio has been told."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, func, literal_column, or_, select, update
from sqlalchemy.orm import Session

from backend.chunks import chunks
from backend.store.base import IN_LIMIT, Repository, scatter, unindexed
from backend.store.tables import Answer, ImageState, TaskRow
from backend.store.task_counts import Span, TaskCounts, read_counts, unrecorded, updating_counts

LINES = 2000  # read at once
PART = 2_500  # pool indices written at once: some 40 ms, in which every other process has to wait
PAUSE_S = 0.06  # between parts: who waits for SQLite's lock only looks now and then, and hardly ever finds it free


@dataclass(frozen=True)
class TaskChange:
    """What a synchronisation learned of one task; ``image`` is None with the ``reason`` why."""

    task_id: int
    image: str | None
    reason: str | None
    answer: Answer
    label: str | None


@dataclass(frozen=True)
class Failure:
    """Why an image was not had, and when to try again: None is never, unless a person asks for it.

    quarantined: it is listed as broken meanwhile, and nothing waits for it.
    """

    reason: str
    retry_at: float | None
    quarantined: bool


class Unrecorded(NamedTuple):
    """A task of which Label Studio has been told nothing, or something else."""

    task_id: int
    loss: float
    batch: int
    recorded_loss: float | None
    recorded_batch: int | None


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


class Tasks(Repository):
    """Queries over tasks of one project."""

    def apply(self, changes: Sequence[TaskChange]) -> None:
        """Write what a synchronisation found; a task whose image reference is new or different is fetched (again)."""
        with self._write() as session:
            for part in chunks(changes, IN_LIMIT):
                ids = [change.task_id for change in part]
                with updating_counts(session, self.project_id, ids):
                    known = {
                        row.task_id: row
                        for row in session.scalars(
                            select(TaskRow).where(TaskRow.project_id == self.project_id, TaskRow.task_id.in_(ids))
                        )
                    }
                    for change in part:
                        row = known.get(change.task_id)
                        if row is None:
                            row = known[change.task_id] = _new_row(self.project_id, change)
                            session.add(row)
                        else:
                            _apply(row, change)

    def known(self) -> set[int]:
        """Give the ids of all tasks that are not gone."""
        with self._read() as session:
            return set(
                session.scalars(
                    select(TaskRow.task_id).where(
                        TaskRow.project_id == self.project_id, TaskRow.state != ImageState.GONE
                    )
                )
            )

    def mark_gone(self, missing: Sequence[int]) -> int:
        """Mark tasks that were found missing in Label Studio as gone; give how many."""
        with self._write() as session:
            gone = {"state": ImageState.GONE, "pool_index": None, "answer": Answer.NONE, "label": None}
            _set_columns(session, self.project_id, missing, gone)
        return len(missing)

    def to_fetch(self, now: float, limit: int) -> list[tuple[int, str]]:
        """Give (task_id, image reference) of images that should be fetched now, at most ``limit``."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.task_id, TaskRow.image)
                .where(
                    TaskRow.project_id == self.project_id,
                    TaskRow.state == ImageState.NEW,
                    or_(TaskRow.retry_at.is_(None), TaskRow.retry_at <= now),
                )
                .order_by(TaskRow.task_id)
                .limit(limit)
            )
            return [(task_id, image or "") for task_id, image in rows]

    def images_fetched(self, pool_indices: Mapping[int, int], refs: Mapping[int, str] | None = None) -> None:
        """Note that images are in the bank: ``pool_indices`` by task id, fetched from ``refs``.

        A task that was deleted or given another image meanwhile stays as it is.
        """
        self._update(
            [
                {"t": task_id, "pool_index": index, "state": ImageState.OK, "reason": None, "retry_at": None}
                for task_id, index in pool_indices.items()
            ],
            refs,
        )

    def images_failed(self, failures: Mapping[int, Failure], refs: Mapping[int, str] | None = None) -> None:
        """Note failures by task id; ``refs`` as above."""
        self._update(
            [
                {
                    "t": task_id,
                    "state": ImageState.BROKEN if failure.quarantined else ImageState.NEW,
                    "reason": failure.reason,
                    "retry_at": failure.retry_at,
                }
                for task_id, failure in failures.items()
            ],
            refs,
            attempts=TaskRow.attempts + 1,
        )

    def attempts(self, task_ids: Sequence[int]) -> dict[int, int]:
        """Give how often each task's image has failed."""
        found = dict.fromkeys(task_ids, 0)
        with self._read() as session:
            for part in chunks(task_ids, IN_LIMIT):
                rows = session.execute(
                    select(TaskRow.task_id, TaskRow.attempts).where(
                        TaskRow.project_id == self.project_id, TaskRow.task_id.in_(part)
                    )
                )
                found.update({int(task_id): int(attempts) for task_id, attempts in rows})
        return found

    def retry_due(self, now: float) -> int:
        """Take out of quarantine what is to be tried again by now; give how many."""
        due = (TaskRow.project_id == self.project_id, TaskRow.state == ImageState.BROKEN, TaskRow.retry_at <= now)
        with self._read() as session:
            found = session.scalars(select(TaskRow.task_id).where(*due)).all()
        if found:
            self._set(found, state=ImageState.NEW, retry_at=None)
        return len(found)

    def retry_broken(self) -> int:
        """Take quarantined images out for another try; give how many."""
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
        """List (task_id, reason) of quarantined images."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.task_id, TaskRow.reason)
                .where(TaskRow.project_id == self.project_id, TaskRow.state == ImageState.BROKEN)
                .order_by(unindexed(TaskRow.task_id))
                .limit(limit)
            )
            return [(task_id, reason or "") for task_id, reason in rows]

    def counts(self, now: float) -> TaskCounts:
        """Give how many tasks are in which condition; images that wait for a retry do not count as new."""
        with self._read() as session:
            return read_counts(session, self.project_id, now)

    def pool_size(self) -> int:
        """Give one more than the highest pool index in use."""
        with self._read() as session:
            highest = session.scalar(select(func.max(TaskRow.pool_index)).where(TaskRow.project_id == self.project_id))
        return 0 if highest is None else int(highest) + 1

    def pool(self, size: int) -> PoolView:
        """Give the pool as arrays of ``size`` rows, without holding its rows in memory."""
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

    def labels(self) -> list[tuple[int, str, bool]]:
        """List (pool_index, label, holdout) of every labeled image, by pool index."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.pool_index, TaskRow.label, TaskRow.holdout)
                .where(
                    TaskRow.project_id == self.project_id,
                    unindexed(TaskRow.state) == ImageState.OK,
                    TaskRow.answer == Answer.LABELED,
                    TaskRow.label.is_not(None),
                )
                .order_by(unindexed(TaskRow.pool_index))
            )
            return [
                (index, label, holdout) for index, label, holdout in rows if index is not None and label is not None
            ]

    def pool_indices(self, task_ids: Sequence[int]) -> dict[int, int]:
        """Give the pool index by task id, for those that have one."""
        found: dict[int, int] = {}
        with self._read() as session:
            for part in chunks(task_ids, IN_LIMIT):
                rows = session.execute(
                    select(TaskRow.task_id, TaskRow.pool_index).where(
                        TaskRow.project_id == self.project_id,
                        TaskRow.task_id.in_(part),
                        TaskRow.pool_index.is_not(None),
                    )
                )
                found.update({task_id: index for task_id, index in rows if index is not None})
        return found

    def set_losses(self, losses: Mapping[int, float]) -> None:
        """Write pretext losses by pool index."""
        self._update_by_index("loss", {index: float(loss) for index, loss in losses.items()})

    def set_batches(self, batches: Mapping[int, int]) -> None:
        """Write batch numbers by pool index."""
        self._update_by_index("batch", {index: int(batch) for index, batch in batches.items()})

    def clear_losses(self) -> None:
        """Forget all losses and batches, as when another pretext task is configured."""
        with self._write() as session, updating_counts(session, self.project_id):
            session.execute(update(TaskRow).where(TaskRow.project_id == self.project_id).values(loss=None, batch=None))

    def clear_batches(self) -> None:
        """Forget all batches, as when another order or number of them is configured."""
        with self._write() as session, updating_counts(session, self.project_id):
            session.execute(update(TaskRow).where(TaskRow.project_id == self.project_id).values(batch=None))

    def refetch_all(self) -> None:
        """Have every image fetched again, as when another image size is configured."""
        with self._write() as session, updating_counts(session, self.project_id):
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == self.project_id, TaskRow.state == ImageState.OK)
                .values(state=ImageState.NEW, pool_index=None, loss=None, batch=None, retry_at=None, attempts=0)
            )

    def unrecorded(self, limit: int) -> list[Unrecorded]:
        """Give the ``limit`` tasks of the highest losses that Label Studio knows wrongly; the cost is that of these.

        Those of one loss come together, so that few of them are parted from others of its value by ``limit``.
        """
        columns = (TaskRow.task_id, TaskRow.loss, TaskRow.batch, TaskRow.recorded_loss, TaskRow.recorded_batch)
        query = (
            select(*columns)
            # Literally 'ok': SQLite compares the text of a condition with that of a partial index.
            .where(
                TaskRow.project_id == self.project_id,
                TaskRow.state == literal_column(f"'{ImageState.OK}'"),
                unrecorded(),
            )
            .order_by(TaskRow.loss.desc())
            .limit(limit)
        )
        with self._read() as session:
            return [Unrecorded._make(row) for row in session.connection().execute(query)]

    def losses_recorded(self, losses: Mapping[int, float]) -> None:
        """Note that Label Studio has been told these (whole) losses, by task id, in rounded form."""
        self._update([{"t": task_id, "recorded_loss": loss} for task_id, loss in losses.items()])

    def batch_recorded(self, task_ids: Sequence[int], batch: int) -> None:
        """Note that Label Studio has been told that these tasks are in ``batch``."""
        self._set(task_ids, recorded_batch=batch)

    def _set(self, task_ids: Sequence[int], **values: Any) -> None:
        with self._write() as session:
            _set_columns(session, self.project_id, task_ids, values)

    def _update(self, rows: list[dict[str, Any]], refs: Mapping[int, str] | None = None, **more: Any) -> None:
        """Set columns by task id ("t"); with ``refs`` only where the image is still to be fetched from there."""
        if not rows:
            return
        statement = (
            update(TaskRow.__table__)  # type: ignore[arg-type]
            .where(TaskRow.project_id == self.project_id, TaskRow.task_id == bindparam("t"))
            .values({name: bindparam(name) for name in rows[0] if name != "t"} | more)
        )
        if refs is not None:
            statement = statement.where(TaskRow.state == ImageState.NEW, TaskRow.image == bindparam("r"))
            rows = [{**row, "r": refs[row["t"]]} for row in rows]
        with self._write() as session, updating_counts(session, self.project_id, [row["t"] for row in rows]):
            session.connection().execute(statement, rows)

    def _update_by_index(self, column: str, values: Mapping[int, float]) -> None:
        """Set a column by pool index, a part of the pool at a time: others that write have their turn in between.

        Whoever is killed in the middle leaves the rest as it was.
        """
        statement = (
            update(TaskRow.__table__)  # type: ignore[arg-type]
            .where(TaskRow.project_id == self.project_id, TaskRow.pool_index == bindparam("i"))
            .values({column: bindparam(column)})
        )
        parts = groupby(sorted(values), lambda index: index // PART)
        for number, part in enumerate(list(indices) for _, indices in parts):
            if number:
                time.sleep(PAUSE_S)
            rows = [{"i": index, column: values[index]} for index in part]
            with self._write() as session, updating_counts(session, self.project_id, Span(part[0], part[-1])):
                session.connection().execute(statement, rows)


def _set_columns(session: Session, project_id: int, task_ids: Sequence[int], values: Mapping[str, Any]) -> None:
    with updating_counts(session, project_id, task_ids):
        for part in chunks(task_ids, IN_LIMIT):
            session.execute(
                update(TaskRow).where(TaskRow.project_id == project_id, TaskRow.task_id.in_(part)).values(**values)
            )


def _new_row(project_id: int, change: TaskChange) -> TaskRow:
    row = TaskRow(project_id=project_id, task_id=change.task_id, answer=change.answer, label=change.label)
    _set_image(row, change)
    return row


def _apply(row: TaskRow, change: TaskChange) -> None:
    if row.image != change.image or row.state == ImageState.GONE:
        _set_image(row, change)
    if row.answer == Answer.NONE and change.answer != Answer.NONE:
        row.answered_at = time.time()
    row.answer, row.label = change.answer, change.label


def _set_image(row: TaskRow, change: TaskChange) -> None:
    row.image, row.reason = change.image, change.reason
    row.state = ImageState.BROKEN if change.image is None else ImageState.NEW
    row.pool_index, row.loss, row.batch = None, None, None
    row.attempts, row.retry_at = 0, None
