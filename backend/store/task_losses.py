"""Losses and batches of tasks, and which of them are recorded in Label Studio."""

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import bindparam, literal_column, select, update

from backend.store.tables import ImageState, TaskRow
from backend.store.task_counts import Span, unrecorded, updating_counts
from backend.store.task_writes import TaskWrites

PART = 2_500  # pool indices written in one transaction: some 40 ms, in which every other process waits
PAUSE_S = 0.06  # between transactions: a process that waits for SQLite's lock polls, and needs a gap to find it free


class Unrecorded(NamedTuple):
    """A task whose loss or batch is not recorded in Label Studio, or recorded with another value."""

    task_id: int
    loss: float
    batch: int
    recorded_loss: float | None
    recorded_batch: int | None


class TaskLosses(TaskWrites):
    """Queries over losses and batches of one project's tasks."""

    def set_losses(self, losses: Mapping[int, float]) -> None:
        """Write pretext losses by pool index."""
        self._update_by_index("loss", {index: float(loss) for index, loss in losses.items()})

    def set_batches(self, batches: Mapping[int, int]) -> None:
        """Write batch numbers by pool index."""
        self._update_by_index("batch", {index: int(batch) for index, batch in batches.items()})

    def clear_losses(self) -> None:
        """Delete all losses and batches, as when another pretext task is configured."""
        with self._write() as session, updating_counts(session, self.project_id):
            session.execute(update(TaskRow).where(TaskRow.project_id == self.project_id).values(loss=None, batch=None))

    def clear_batches(self) -> None:
        """Delete all batches, as when another order or number of them is configured."""
        with self._write() as session, updating_counts(session, self.project_id):
            session.execute(update(TaskRow).where(TaskRow.project_id == self.project_id).values(batch=None))

    def unrecorded(self, limit: int) -> list[Unrecorded]:
        """Return the ``limit`` tasks of the highest losses that are not recorded; the cost is that of these.

        Tasks of equal loss come together, so that ``limit`` separates few of them.
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
        """Note by task id which losses, as in ``loss``, are recorded in Label Studio (there in rounded form)."""
        self._update([{"t": task_id, "recorded_loss": loss} for task_id, loss in losses.items()])

    def batch_recorded(self, task_ids: Sequence[int], batch: int) -> None:
        """Note that ``batch`` is recorded in Label Studio for these tasks."""
        self._set(task_ids, recorded_batch=batch)

    def _update_by_index(self, column: str, values: Mapping[int, float]) -> None:
        """Set a column by pool index, a part of the pool in each transaction: other processes write in between.

        If the process is killed in the middle, the rest keeps its values.
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
