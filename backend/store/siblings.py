"""Projects that several servers have: a copy of Label Studio, or a project that has moved."""

import secrets
import time
from collections.abc import Callable
from enum import StrEnum

from sqlalchemy import delete, func, select

from backend.store.base import LARGEST, Transaction
from backend.store.tables import Base, ProjectRow, RoundRow, TaskRow

APART_S = 2.0  # of two servers that called within so long, nobody can tell which one calls
# What belongs to the place of a project, and not to what was learned there.
ADDRESS = ("server", "hostname", "token", "webhook_secret", "backend_url", "label_config", "extra_params", "active",
           "connected_at", "called_at", "card", "card_id")  # fmt: skip


class Place(StrEnum):
    """What is known of where a project is, while other servers have it as well; None: it is where it is."""

    NEW = "new"  # connected from a server that we did not know it on
    AWAY = "away"  # it went elsewhere, as this server was silent or had it no more
    ASKED = "asked"  # a person has to say where its history belongs
    SAME = "same"  # another name of a server where the work goes on


class Siblings:
    """Queries over rows of one project, by id and creation time, on several servers."""

    _read: Transaction
    _write: Transaction
    _encrypt: Callable[[str], str]

    def siblings(self, project: ProjectRow) -> list[ProjectRow]:
        """Return the rows of the same project on other servers, the last connected first."""
        return [row for row in self.of_uid(project.studio_project_id, project.created_ts) if row.id != project.id]

    def of_uid(self, studio_project_id: int, created_ts: str, *, active: bool | None = None) -> list[ProjectRow]:
        """Return the rows of one project on all servers, the last connected first."""
        if studio_project_id > LARGEST:
            return []
        query = select(ProjectRow).where(
            ProjectRow.studio_project_id == studio_project_id, ProjectRow.created_ts == created_ts
        )
        if active is not None:
            query = query.where(ProjectRow.active == active)
        with self._read() as session:
            return list(session.scalars(query.order_by(ProjectRow.connected_at.desc(), ProjectRow.id.desc())))

    def caller(self, studio_project_id: int, created_ts: str) -> ProjectRow | None:
        """Return the active row whose server called ``/setup`` last, which Label Studio does before it asks for more.

        None where two servers called at nearly the same time: what one is told must not reach the other.
        """
        rows = self.of_uid(studio_project_id, created_ts, active=True)
        rows.sort(key=lambda row: row.called_at or 0.0, reverse=True)
        if len(rows) > 1 and (rows[0].called_at or 0.0) - (rows[1].called_at or 0.0) < APART_S:
            return None
        return rows[0] if rows else None

    def renew_secret(self, project_id: int) -> str:
        """Give the project's webhook another secret; return it in clear."""
        secret = secrets.token_urlsafe(32)
        with self._write() as session:
            session.get_one(ProjectRow, project_id).webhook_secret = self._encrypt(secret)
        return secret

    def exchange(self, first_id: int, second_id: int) -> None:
        """Have two rows exchange their addresses, so that what was learned goes along; all tasks are read again."""
        with self._write() as session:
            first, second = session.get_one(ProjectRow, first_id), session.get_one(ProjectRow, second_id)
            pairs = {name: (getattr(first, name), getattr(second, name)) for name in ADDRESS}
            first.server = f"moving {first_id}"  # no two rows have one server at any time
            session.flush()
            for row, side in ((second, 0), (first, 1)):
                for name, pair in pairs.items():
                    setattr(row, name, pair[side])
                row.cursor, row.error, row.put_back, row.place, row.take_from = None, None, None, None, None
                session.flush()

    def take_address(self, project_id: int, of: int) -> None:
        """Give a project the address of another row, which nothing was learned on yet and which is deleted."""
        with self._write() as session:
            project, other = session.get_one(ProjectRow, project_id), session.get_one(ProjectRow, of)
            address = {name: getattr(other, name) for name in ADDRESS}
            for table in reversed(Base.metadata.sorted_tables):
                if "project_id" in table.c:  # some rows are of the whole database
                    session.execute(delete(table).where(table.c.project_id == of))
            session.delete(other)
            session.flush()
            for name, value in {**address, "active": True, "cursor": None, "error": None, "place": None}.items():
                setattr(project, name, value)

    def has_rounds(self, project_id: int) -> bool:
        """Tell whether a project has a history."""
        with self._read() as session:
            return session.scalar(select(RoundRow.number).where(RoundRow.project_id == project_id).limit(1)) is not None

    def has_changed_since(self, project_id: int, moment: float) -> bool:
        """Tell whether anybody has answered, or a round was served or closed, after a moment."""
        newest = (
            select(func.max(TaskRow.answered_at)).where(TaskRow.project_id == project_id),
            select(func.max(RoundRow.live_at)).where(RoundRow.project_id == project_id),
            select(func.max(RoundRow.closed_at)).where(RoundRow.project_id == project_id),
        )
        with self._read() as session:
            return any((session.scalar(query) or 0.0) > moment for query in newest)

    def ask(self, project_id: int, take_from: int | None) -> None:
        """Note what a person has said: the history of another row belongs to this project's place, or its own does."""
        with self._write() as session:
            row = session.get_one(ProjectRow, project_id)
            row.take_from = take_from
            if take_from is None:
                row.place, row.place_text, row.connected_at = None, None, time.time()
