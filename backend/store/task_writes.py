"""Writes of columns of many tasks, which keep the counts right."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, or_, update
from sqlalchemy.orm import Session

from backend.chunks import chunks
from backend.store.base import IN_LIMIT, Repository
from backend.store.tables import ImageState, TaskRow
from backend.store.task_counts import renewed, updating_counts


class TaskWrites(Repository):
    """Columns of one project's tasks, by task id."""

    def _set(self, task_ids: Sequence[int], **values: Any) -> None:
        """Set columns to the same values for all of these tasks."""
        with self._write() as session:
            set_columns(session, self.project_id, task_ids, values)

    def _update(self, rows: list[dict[str, Any]], refs: Mapping[int, str] | None = None, **more: Any) -> None:
        """Set columns by task id ("t"); with ``refs`` only where the image is still to be fetched from there.

        more: columns that are computed in the database; they may read keys of the rows that are no columns.
        """
        if not rows:
            return
        statement = (
            update(TaskRow.__table__)  # type: ignore[arg-type]
            .where(TaskRow.project_id == self.project_id, TaskRow.task_id == bindparam("t"))
            .values({name: bindparam(name) for name in rows[0] if name in TaskRow.__table__.columns} | more)
        )
        if refs is not None:
            awaited = or_(TaskRow.state == ImageState.NEW, renewed())
            statement = statement.where(awaited, TaskRow.image == bindparam("r"))
            rows = [{**row, "r": refs[row["t"]]} for row in rows]
        with self._write() as session, updating_counts(session, self.project_id, [row["t"] for row in rows]):
            session.connection().execute(statement, rows)


def set_columns(session: Session, project_id: int, task_ids: Sequence[int], values: Mapping[str, Any]) -> None:
    """Set columns to the same values for all of these tasks, within a transaction."""
    with updating_counts(session, project_id, task_ids):
        for part in chunks(task_ids, IN_LIMIT):
            session.execute(
                update(TaskRow).where(TaskRow.project_id == project_id, TaskRow.task_id.in_(part)).values(**values)
            )
