"""Tasks: images, answers, losses, batches, and what of them Label Studio has been told."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, case, func, or_, select, update

from backend.store.base import Repository, chunks
from backend.store.tables import Answer, ImageState, TaskRow


@dataclass(frozen=True)
class TaskChange:
    """What a synchronisation learned of one task; ``image`` is None with the ``reason`` why."""

    task_id: int
    image: str | None
    reason: str | None
    answer: Answer
    label: str | None


@dataclass(frozen=True)
class TaskCounts:
    """How many tasks are in which condition."""

    tasks: int = 0  # all that are not gone
    new: int = 0  # images to be fetched
    ok: int = 0
    broken: int = 0
    answered: int = 0  # with any answer
    labeled: int = 0  # with a usable label
    trainable: int = 0  # labeled, image in the bank, not holdout
    available: int = 0  # image in the bank, nobody answered
    askable: int = 0  # available, with a batch
    unscored: int = 0  # in the bank without a loss
    unsplit: int = 0  # with a loss, without a batch
    unrecorded: int = 0  # Label Studio does not know loss and batch


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
    """Queries over tasks of one project, named by our ``key``."""

    def apply(self, key: int, changes: Sequence[TaskChange]) -> list[int]:
        """Write what a synchronisation found; give the ids of tasks whose answer changed.

        A task whose image reference is new or different is fetched (again).
        """
        changed_answers = []
        with self._write() as session:
            for part in chunks(changes):
                known = {
                    row.task_id: row
                    for row in session.scalars(
                        select(TaskRow).where(
                            TaskRow.project_id == key, TaskRow.task_id.in_([change.task_id for change in part])
                        )
                    )
                }
                for change in part:
                    row = known.get(change.task_id)
                    if row is None:
                        row = TaskRow(project_id=key, task_id=change.task_id, answer=Answer.NONE)
                        known[change.task_id] = row
                        _set_image(row, change)
                        session.add(row)
                    elif row.image != change.image or row.state == ImageState.GONE:
                        _set_image(row, change)
                    if (row.answer, row.label) != (change.answer, change.label):
                        row.answer, row.label = change.answer, change.label
                        changed_answers.append(change.task_id)
        return changed_answers

    def mark_gone(self, key: int, present: set[int]) -> int:
        """Mark every task that is not ``present`` in Label Studio as gone; give how many."""
        with self._write() as session:
            known = session.scalars(
                select(TaskRow.task_id).where(TaskRow.project_id == key, TaskRow.state != ImageState.GONE)
            )
            missing = [task_id for task_id in known if task_id not in present]
            for part in chunks(missing):
                session.execute(
                    update(TaskRow)
                    .where(TaskRow.project_id == key, TaskRow.task_id.in_(part))
                    .values(state=ImageState.GONE, pool_index=None, answer=Answer.NONE, label=None)
                )
        return len(missing)

    def missing_from(self, key: int, present: Iterable[int]) -> list[int]:
        """Give the ids in ``present`` that the store does not have, or has as gone."""
        with self._read() as session:
            known = set(
                session.scalars(
                    select(TaskRow.task_id).where(TaskRow.project_id == key, TaskRow.state != ImageState.GONE)
                )
            )
        return [task_id for task_id in present if task_id not in known]

    def to_fetch(self, key: int, now: float, limit: int) -> list[tuple[int, str]]:
        """Give (task_id, image reference) of images that should be fetched now, at most ``limit``."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.task_id, TaskRow.image)
                .where(
                    TaskRow.project_id == key,
                    TaskRow.state == ImageState.NEW,
                    or_(TaskRow.retry_at.is_(None), TaskRow.retry_at <= now),
                )
                .order_by(TaskRow.task_id)
                .limit(limit)
            )
            return [(task_id, image or "") for task_id, image in rows]

    def images_fetched(self, key: int, pool_indices: Mapping[int, int], refs: Mapping[int, str] | None = None) -> None:
        """Note that images are in the bank: ``pool_indices`` by task id, fetched from ``refs``.

        A task that was deleted or given another image meanwhile stays as it is.
        """
        self._update(
            key,
            [
                {"t": task_id, "pool_index": index, "state": ImageState.OK, "reason": None, "retry_at": None}
                for task_id, index in pool_indices.items()
            ],
            refs,
        )

    def images_failed(
        self, key: int, failures: Mapping[int, tuple[str, float | None]], refs: Mapping[int, str] | None = None
    ) -> None:
        """Note failures by task id: the reason, and when to try again (None: quarantined); ``refs`` as above."""
        self._update(
            key,
            [
                {
                    "t": task_id,
                    "state": ImageState.BROKEN if retry_at is None else ImageState.NEW,
                    "reason": reason,
                    "retry_at": retry_at,
                }
                for task_id, (reason, retry_at) in failures.items()
            ],
            refs,
            attempts=TaskRow.attempts + 1,
        )

    def attempts(self, key: int, task_ids: Sequence[int]) -> dict[int, int]:
        """Give how often each task's image has failed."""
        found = dict.fromkeys(task_ids, 0)
        with self._read() as session:
            for part in chunks(task_ids):
                rows = session.execute(
                    select(TaskRow.task_id, TaskRow.attempts).where(
                        TaskRow.project_id == key, TaskRow.task_id.in_(part)
                    )
                )
                found.update({int(task_id): int(attempts) for task_id, attempts in rows})
        return found

    def retry_broken(self, key: int) -> int:
        """Take quarantined images out for another try; give how many."""
        with self._write() as session:
            result = session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == key, TaskRow.state == ImageState.BROKEN, TaskRow.image.is_not(None))
                .values(state=ImageState.NEW, reason=None, retry_at=None, attempts=0)
            )
            return int(result.rowcount)  # type: ignore[attr-defined]

    def broken(self, key: int, limit: int = 1000) -> list[tuple[int, str]]:
        """List (task_id, reason) of quarantined images."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.task_id, TaskRow.reason)
                .where(TaskRow.project_id == key, TaskRow.state == ImageState.BROKEN)
                .order_by(TaskRow.task_id)
                .limit(limit)
            )
            return [(task_id, reason or "") for task_id, reason in rows]

    def counts(self, key: int, now: float) -> TaskCounts:
        """Count tasks by condition, in one pass; images that wait for a retry do not count as new."""
        alive = TaskRow.state != ImageState.GONE
        ok = TaskRow.state == ImageState.OK
        labeled = TaskRow.answer == Answer.LABELED
        conditions = {
            "tasks": alive,
            "new": (TaskRow.state == ImageState.NEW) & (or_(TaskRow.retry_at.is_(None), TaskRow.retry_at <= now)),
            "ok": ok,
            "broken": TaskRow.state == ImageState.BROKEN,
            "answered": alive & (TaskRow.answer != Answer.NONE),
            "labeled": alive & labeled,
            "trainable": ok & labeled & ~TaskRow.holdout,
            "available": ok & (TaskRow.answer == Answer.NONE),
            "askable": ok & (TaskRow.answer == Answer.NONE) & TaskRow.batch.is_not(None),
            "unscored": ok & TaskRow.loss.is_(None),
            "unsplit": ok & TaskRow.loss.is_not(None) & TaskRow.batch.is_(None),
            "unrecorded": ok & _unrecorded(),
        }
        columns = [func.coalesce(func.sum(case((test, 1), else_=0)), 0) for test in conditions.values()]
        with self._read() as session:
            row = session.execute(select(*columns).where(TaskRow.project_id == key)).one()
        return TaskCounts(**{name: int(value) for name, value in zip(conditions, row, strict=True)})

    def pool_size(self, key: int) -> int:
        """Give one more than the highest pool index in use."""
        with self._read() as session:
            highest = session.scalar(select(func.max(TaskRow.pool_index)).where(TaskRow.project_id == key))
        return 0 if highest is None else int(highest) + 1

    def pool(self, key: int, size: int) -> PoolView:
        """Give the pool as arrays of ``size`` rows."""
        with self._read() as session:
            rows = session.execute(
                select(
                    TaskRow.pool_index, TaskRow.task_id, TaskRow.loss, TaskRow.batch, TaskRow.answer, TaskRow.holdout
                ).where(TaskRow.project_id == key, TaskRow.state == ImageState.OK, TaskRow.pool_index < size)
            ).all()
        view = PoolView(
            task_id=np.full(size, -1, np.int64),
            loss=np.full(size, np.nan, np.float32),
            batch=np.full(size, -1, np.int64),
            available=np.zeros(size, np.bool_),
            labeled=np.zeros(size, np.bool_),
            holdout=np.zeros(size, np.bool_),
        )
        if rows:
            index, task_id, loss, batch, answer, holdout = zip(*rows, strict=True)
            at = np.asarray(index, np.int64)
            view.task_id[at] = task_id
            view.loss[at] = np.array([np.nan if value is None else value for value in loss], np.float32)
            view.batch[at] = [-1 if value is None else value for value in batch]
            view.available[at] = [value == Answer.NONE for value in answer]
            view.labeled[at] = [value == Answer.LABELED for value in answer]
            view.holdout[at] = holdout
        return view

    def labels(self, key: int) -> list[tuple[int, str, bool]]:
        """List (pool_index, label, holdout) of every labeled image, by pool index."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.pool_index, TaskRow.label, TaskRow.holdout)
                .where(
                    TaskRow.project_id == key,
                    TaskRow.state == ImageState.OK,
                    TaskRow.answer == Answer.LABELED,
                    TaskRow.label.is_not(None),
                )
                .order_by(TaskRow.pool_index)
            )
            return [
                (index, label, holdout) for index, label, holdout in rows if index is not None and label is not None
            ]

    def pool_indices(self, key: int, task_ids: Sequence[int]) -> dict[int, int]:
        """Give the pool index by task id, for those that have one."""
        found: dict[int, int] = {}
        with self._read() as session:
            for part in chunks(task_ids):
                rows = session.execute(
                    select(TaskRow.task_id, TaskRow.pool_index).where(
                        TaskRow.project_id == key, TaskRow.task_id.in_(part), TaskRow.pool_index.is_not(None)
                    )
                )
                found.update({task_id: index for task_id, index in rows if index is not None})
        return found

    def set_losses(self, key: int, losses: Mapping[int, float]) -> None:
        """Write pretext losses by pool index."""
        self._update_by_index(key, [{"i": index, "loss": float(loss)} for index, loss in losses.items()])

    def set_batches(self, key: int, batches: Mapping[int, int]) -> None:
        """Write batch numbers by pool index."""
        self._update_by_index(key, [{"i": index, "batch": int(batch)} for index, batch in batches.items()])

    def clear_losses(self, key: int) -> None:
        """Forget all losses and batches, as when another pretext task is configured."""
        with self._write() as session:
            session.execute(update(TaskRow).where(TaskRow.project_id == key).values(loss=None, batch=None))

    def clear_batches(self, key: int) -> None:
        """Forget all batches, as when another order or number of them is configured."""
        with self._write() as session:
            session.execute(update(TaskRow).where(TaskRow.project_id == key).values(batch=None))

    def refetch_all(self, key: int) -> None:
        """Have every image fetched again, as when another image size is configured."""
        with self._write() as session:
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == key, TaskRow.state == ImageState.OK)
                .values(state=ImageState.NEW, pool_index=None, loss=None, batch=None, retry_at=None, attempts=0)
            )

    def unrecorded(self, key: int) -> list[tuple[int, float, int, float | None, int | None]]:
        """List (task_id, loss, batch, recorded loss, recorded batch) of tasks that Label Studio knows wrongly."""
        with self._read() as session:
            rows = session.execute(
                select(TaskRow.task_id, TaskRow.loss, TaskRow.batch, TaskRow.recorded_loss, TaskRow.recorded_batch)
                .where(TaskRow.project_id == key, TaskRow.state == ImageState.OK, _unrecorded())
                .order_by(TaskRow.batch, TaskRow.task_id)
            )
            return [tuple(row) for row in rows]  # type: ignore[misc]

    def losses_recorded(self, key: int, losses: Mapping[int, float]) -> None:
        """Note that Label Studio has been told these (whole) losses, by task id, in rounded form."""
        self._update(key, [{"t": task_id, "recorded_loss": loss} for task_id, loss in losses.items()])

    def batch_recorded(self, key: int, task_ids: Sequence[int], batch: int) -> None:
        """Note that Label Studio has been told that these tasks are in ``batch``."""
        self._set(key, task_ids, recorded_batch=batch)

    def set_holdout(self, key: int, task_ids: Sequence[int], *, holdout: bool) -> None:
        """Put tasks into the holdout, or release them to training."""
        self._set(key, task_ids, holdout=holdout)

    def _set(self, key: int, task_ids: Sequence[int], **values: Any) -> None:
        with self._write() as session:
            for part in chunks(task_ids):
                session.execute(
                    update(TaskRow).where(TaskRow.project_id == key, TaskRow.task_id.in_(part)).values(**values)
                )

    def _update(self, key: int, rows: list[dict[str, Any]], refs: Mapping[int, str] | None = None, **more: Any) -> None:
        """Set columns by task id ("t"); with ``refs`` only where the image is still to be fetched from there."""
        if not rows:
            return
        statement = (
            update(TaskRow.__table__)  # type: ignore[arg-type]
            .where(TaskRow.project_id == key, TaskRow.task_id == bindparam("t"))
            .values({name: bindparam(name) for name in rows[0] if name != "t"} | more)
        )
        if refs is not None:
            statement = statement.where(TaskRow.state == ImageState.NEW, TaskRow.image == bindparam("r"))
            rows = [{**row, "r": refs[row["t"]]} for row in rows]
        with self._write() as session:
            session.connection().execute(statement, rows)

    def _update_by_index(self, key: int, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        statement = (
            update(TaskRow.__table__)  # type: ignore[arg-type]
            .where(TaskRow.project_id == key, TaskRow.pool_index == bindparam("i"))
            .values({name: bindparam(name) for name in rows[0] if name != "i"})
        )
        with self._write() as session:
            session.connection().execute(statement, rows)


def _set_image(row: TaskRow, change: TaskChange) -> None:
    row.image, row.reason = change.image, change.reason
    row.state = ImageState.BROKEN if change.image is None else ImageState.NEW
    row.pool_index, row.loss, row.batch = None, None, None
    row.attempts, row.retry_at = 0, None


def _unrecorded() -> Any:
    """A loss and batch of which Label Studio has been told nothing, or something else; recorded_loss is not rounded."""
    return TaskRow.batch.is_not(None) & (
        TaskRow.recorded_batch.is_(None)
        | (TaskRow.recorded_batch != TaskRow.batch)
        | TaskRow.recorded_loss.is_(None)
        | (TaskRow.recorded_loss != TaskRow.loss)
    )
