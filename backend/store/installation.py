"""Which data folder belongs to a database: processes on several machines have to see the same one."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from backend.errors import ConfigError
from backend.store.base import Transaction
from backend.store.engine import Clock, is_postgres
from backend.store.tables import InstallationRow
from model.data.atomic_files import write_once

_ROW = 1
_MARK = "installation"  # a file in the data folder that has its id
GONE_S = 60.0  # after which nobody works with the folder any more that was last in use


@dataclass(frozen=True)
class Place:
    """The ids of a database and of a data folder."""

    database: str
    folder: str


class Installation:
    """The database's own row."""

    def __init__(self, read: Transaction, write: Transaction, clock: Clock, data_dir: Path) -> None:
        """data_dir: the data folder that this process sees."""
        self._read, self._write, self._clock, self._data_dir = read, write, clock, data_dir

    def claim(self) -> Place:
        """Note that this process works with database and data folder, and return their ids.

        A folder that is new to the database takes the place of one that nobody works with: it may have been lost.

        Raises:
            ConfigError: others work with this database and another folder, or the folder takes no files.
        """
        now = self._clock.now()
        folder = self._folder()
        with self._write() as session:
            row = session.get(InstallationRow, _ROW)
            if row is None:
                row = InstallationRow(id=_ROW, database=secrets.token_hex(16), folder=folder, seen_at=now)
                session.add(row)
            if problem := self._problem(session, row, folder, now):
                raise ConfigError(problem)
            row.folder, row.seen_at = folder, now
            return Place(row.database, folder)

    def place(self) -> Place | None:
        """Return the ids of the database and of its folder; None where nothing has ever worked with it."""
        with self._read() as session:
            row = session.get(InstallationRow, _ROW)
            return Place(row.database, row.folder) if row is not None else None

    def problem(self) -> str | None:
        """Return a sentence that others work with this database and another folder; None where nobody does."""
        now, folder = self._clock.now(), self._folder()
        with self._read() as session:
            row = session.get(InstallationRow, _ROW)
            return None if row is None else self._problem(session, row, folder, now)

    def _problem(self, session: Session, row: InstallationRow, folder: str, now: float) -> str | None:
        # With SQLite, which lies in the folder, nobody is on another machine.
        if row.folder == folder or now - row.seen_at > GONE_S or not is_postgres(session.connection()):
            return None
        return (
            f"DATA_DIR: the others on this database work in another data folder than {self._data_dir.resolve()}: give "
            "all machines the same one, by a shared file system, or this installation a database of its own "
            f"(DATABASE_URL). Where their folder is lost, stop them, wait {GONE_S:g} s, and start again: what was in "
            "it is fetched and computed anew"
        )

    def _folder(self) -> str:
        try:
            return write_once(self._data_dir / _MARK, secrets.token_hex(16).encode()).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"DATA_DIR: the data folder {self._data_dir.resolve()} takes no files ({error})"
            ) from error
