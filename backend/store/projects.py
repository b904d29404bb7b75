"""Projects: identity, address and credentials of their Label Studio, errors."""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import case, select, update
from sqlalchemy.orm import aliased

from backend.errors import ConfigError
from backend.store.base import LARGEST, Transaction
from backend.store.siblings import Place, Siblings
from backend.store.tables import ProjectRow

READ_BY = ("control", "problem", "background")  # extra params by which answers are read
CALLS_S = 1.0  # between two notes that a server has called
# Label Studio calls ``/setup`` every 30 s while a project is looked at. A server that has called within so long under
# its own name is there under that name.
RENAMED_S = 90.0


class Projects(Siblings):
    """Queries over projects. ``project_id`` is of this database, ``studio_project_id`` is Label Studio's."""

    def __init__(
        self,
        read: Transaction,
        write: Transaction,
        encrypt: Callable[[str], str],
        decrypt: Callable[[str], str | None],
    ) -> None:
        """Take the transactions and the cipher for tokens."""
        self._read = read
        self._write = write
        self._encrypt = encrypt
        self._decrypt = decrypt

    def connect(
        self,
        *,
        studio_project_id: int,
        created_ts: str,
        server: str,
        hostname: str | None = None,
        token: str | None,
        backend_url: str | None,
        label_config: str,
        extra_params: dict[str, Any],
        only: bool = False,
    ) -> tuple[ProjectRow, bool]:
        """Create or refresh the project that ``/setup`` names; return its row and whether anything changed.

        Other projects stay as they are: the request is not yet confirmed by Label Studio, see ``deactivate_replaced``.
        only: ``server`` is the only one that is ever called, so that a known project has moved there.

        Raises:
            ConfigError: it comes from a copy of that only server.
        """
        with self._write() as session:
            same = select(ProjectRow).where(
                ProjectRow.studio_project_id == studio_project_id, ProjectRow.created_ts == created_ts
            )
            row = session.scalar(same.where(ProjectRow.server == server))
            if row is None and hostname is not None and server != hostname:
                # The same Label Studio by another address: the operator has changed it.
                row = session.scalar(same.where(ProjectRow.hostname == hostname))
            if row is None and only:
                row = session.scalar(same.order_by(ProjectRow.active.desc(), ProjectRow.connected_at.desc()).limit(1))
            now = time.time()
            if only and row is not None and row.server == server:
                _check_is_no_copy(row, hostname, now)
            fresh: dict[str, Any] = {
                "server": server,
                "hostname": hostname,
                "backend_url": backend_url,
                "label_config": label_config,
                "extra_params": extra_params,
                "active": True,
            }
            known_elsewhere = not only and session.scalar(same.where(ProjectRow.server != server).limit(1)) is not None
            if row is None:
                row = ProjectRow(
                    called_at=now,
                    place=Place.NEW if known_elsewhere else None,
                    studio_project_id=studio_project_id,
                    created_ts=created_ts,
                    token=self._encrypt(token) if token else None,
                    webhook_secret=self._encrypt(secrets.token_urlsafe(32)),
                    connected_at=now,
                    **fresh,
                )
                session.add(row)
                session.flush()
                return row, True
            changed: dict[str, Any] = {name: value for name, value in fresh.items() if getattr(row, name) != value}
            if token and (row.token is None or self._decrypt(row.token) != token):
                changed["token"] = self._encrypt(token)
            if self._decrypt(row.webhook_secret) is None:  # the data folder's key was lost, and the secret with it
                changed["webhook_secret"] = self._encrypt(secrets.token_urlsafe(32))
            if "label_config" in changed or any(extra_params.get(key) != row.extra_params.get(key) for key in READ_BY):
                changed["cursor"] = None  # the labels decide which answers are usable: all are read again
            if "active" in changed:
                changed |= {"connected_at": now, "card": None, "card_id": None}
                if known_elsewhere and row.place not in (Place.AWAY, Place.ASKED):
                    changed["place"] = Place.NEW
            for name, value in changed.items():
                setattr(row, name, value)
            if row.called_at is None or now - row.called_at > CALLS_S:
                row.called_at = now
            return row, bool(changed)

    def deactivate_replaced(self, project_id: int) -> None:
        """Deactivate older projects of its id on its server, once Label Studio has confirmed it.

        The same project on other servers is asked for there: see ``loop.siblings``.
        """
        this, former = aliased(ProjectRow), aliased(ProjectRow)
        replaced = (
            select(former.id)
            .join(this, this.studio_project_id == former.studio_project_id)
            .where(
                this.id == project_id,
                former.id != project_id,
                former.active,
                former.connected_at <= this.connected_at,
                former.server == this.server,
            )
        )
        with self._read() as session:
            ids = session.scalars(replaced).all()
        if ids:  # rare: a write would make other processes wait
            with self._write() as session:
                session.execute(update(ProjectRow).where(ProjectRow.id.in_(ids)).values(active=False))

    def read_to(
        self, project_id: int, cursor: str | None, label_config: str, extra_params: Mapping[str, Any] | None = None
    ) -> bool:
        """Move the cursor of what was read of Label Studio; not if other labels were set up meanwhile.

        extra_params: those by which it was read. Returns False if all is to be read again.
        """
        given = extra_params or {}
        same = [ProjectRow.extra_params[key].as_string().is_not_distinct_from(given.get(key)) for key in READ_BY]
        with self._write() as session:
            result = session.execute(
                update(ProjectRow)
                .where(ProjectRow.id == project_id, ProjectRow.label_config == label_config, *same)
                .values(cursor=cursor)
            )
            return bool(result.rowcount)  # type: ignore[attr-defined]

    def get(self, project_id: int) -> ProjectRow | None:
        """Return the project, or None."""
        with self._read() as session:
            return session.get(ProjectRow, project_id)

    def named(self, name: str) -> ProjectRow | None:
        """Return the project that addresses call so, or None.

        "<Label Studio's id>" is an active project before others, of several active ones that which was known first.
        "<Label Studio's id>-<our id>" is one project, whatever others there are.
        """
        studio_project_id, _, own = name.partition("-")
        if max(int(studio_project_id), int(own or 0)) > LARGEST:
            return None
        with self._read() as session:
            query = select(ProjectRow).where(ProjectRow.studio_project_id == int(studio_project_id))
            if own:
                return session.scalar(query.where(ProjectRow.id == int(own)))
            known_first = case((ProjectRow.active, ProjectRow.id), else_=0)
            order = (ProjectRow.active.desc(), known_first, ProjectRow.connected_at.desc(), ProjectRow.id.desc())
            return session.scalar(query.order_by(*order).limit(1))

    def name_of(self, project: ProjectRow) -> str:
        """Return the shortest name by which ``named`` finds a project."""
        short = str(project.studio_project_id)
        found = self.named(short)
        return short if found is None or found.id == project.id else f"{short}-{project.id}"

    def find(
        self, studio_project_id: int, created_ts: str | None = None, server: str | None = None
    ) -> ProjectRow | None:
        """Return the project of that Label Studio id that was connected last, an active one first."""
        if abs(studio_project_id) > LARGEST:
            return None
        with self._read() as session:
            query = select(ProjectRow).where(ProjectRow.studio_project_id == studio_project_id)
            if created_ts is not None:
                query = query.where(ProjectRow.created_ts == created_ts)
            if server is not None:
                query = query.where(ProjectRow.server == server)
            return session.scalar(
                query.order_by(ProjectRow.active.desc(), ProjectRow.connected_at.desc(), ProjectRow.id.desc()).limit(1)
            )

    def all(self, *, active: bool | None = None, studio_project_id: int | None = None) -> list[ProjectRow]:
        """Return projects by id."""
        query = select(ProjectRow).order_by(ProjectRow.id)
        if active is not None:
            query = query.where(ProjectRow.active == active)
        if studio_project_id is not None:
            if abs(studio_project_id) > LARGEST:
                return []
            query = query.where(ProjectRow.studio_project_id == studio_project_id)
        with self._read() as session:
            return list(session.scalars(query))

    def set(self, project_id: int, **values: Any) -> None:
        """Set columns of a project."""
        with self._write() as session:
            session.execute(update(ProjectRow).where(ProjectRow.id == project_id).values(**values))

    def token(self, project: ProjectRow) -> str | None:
        """Return the token that Label Studio sent to ``/setup``, decrypted."""
        return self._decrypt(project.token) if project.token else None

    def webhook_secret(self, project: ProjectRow) -> str | None:
        """Return the secret that Label Studio's webhook has to send, decrypted."""
        return self._decrypt(project.webhook_secret)


def _check_is_no_copy(row: ProjectRow, hostname: str | None, now: float) -> None:
    """Raise ConfigError where a server calls under another name than the one that is there under its own."""
    if not row.active or row.hostname is None or hostname in (None, row.hostname):
        return
    if row.called_at is not None and now - row.called_at < RENAMED_S:
        raise ConfigError(
            f"this backend works for the Label Studio at LABEL_STUDIO_URL ({row.server}), which calls itself "
            f"{row.hostname}; this one calls itself {hostname}. If it is a copy, run a backend of its own for it; if "
            "LABEL_STUDIO_HOST was changed, look again in two minutes"
        )
