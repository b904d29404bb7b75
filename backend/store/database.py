"""Opening the database, and its transactions."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from backend.errors import ConfigError, StoreUnavailable, Superseded
from backend.file_locks import wait_for_lock
from backend.store.autolabel_orders import AutolabelOrders
from backend.store.dashboard_queries import DashboardQueries
from backend.store.jobs import Jobs, release_worker
from backend.store.projects import Projects
from backend.store.rounds import Rounds
from backend.store.schema import bring_up_to_date
from backend.store.tables import ProjectRow
from backend.store.tasks import Tasks
from model.data.atomic_files import replacing

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 30.0  # how long SQLite waits for another process's write
BEGIN = "pt4al_begin"  # execution option: how SQLite begins the transaction


class Cipher:
    """Encrypts stored tokens with a key in the data folder that only this user may read."""

    def __init__(self, key_file: Path) -> None:
        """Read the key, or create one on the first start; one process at a time may do so.

        A damaged key is renamed and replaced. What it encrypted is lost, and has to be set up again.
        """
        try:
            self._fernet = Fernet(key_file.read_bytes())
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, ValueError):
                logger.warning("%s is damaged (%s): it is set aside, and a new one is made", key_file, error)
                key_file.rename(key_file.with_suffix(".damaged"))
            key = Fernet.generate_key()
            with replacing(key_file) as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(key)
            self._fernet = Fernet(key)

    def encrypt(self, text: str) -> str:
        """Return the text in encrypted form."""
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str | None:
        """Return the clear text, or None if the key has changed since."""
        try:
            return self._fernet.decrypt(text.encode()).decode()
        except InvalidToken:
            return None


class Store:
    """The tables, by subject. Each call of a subject is one transaction."""

    def __init__(self, url: str, data_dir: Path) -> None:
        """Open the database at ``url``, creating what is missing.

        Raises:
            ConfigError: the database or the data folder cannot be opened.
        """
        self.engine, self.data_dir = open_engine(url), data_dir
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            # Web and workers start at once: one of them makes key and tables, the others find them.
            with wait_for_lock(data_dir / "store.lock"):
                cipher = Cipher(data_dir / "secret.key")
                _prepare(self.engine)
        except OSError as error:
            raise ConfigError(f"DATA_DIR: the data folder {data_dir.resolve()} takes no files ({error})") from error
        self._session = sessionmaker(self.engine, expire_on_commit=False)
        self.projects = Projects(self.read, self.write, cipher.encrypt, cipher.decrypt)
        self._of: dict[int, ProjectStore] = {}

    def of(self, project_id: int) -> "ProjectStore":
        """Return the part of the store that belongs to a project, by its id in this database."""
        return self._of.setdefault(project_id, ProjectStore(self, project_id))

    def release_worker(self, worker: str) -> int:
        """Free the jobs, of any project, that a worker of that name was running when it died; return how many."""
        with self.write() as session:
            return release_worker(session, worker)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Run a block that only reads, on one consistent state.

        Raises:
            StoreUnavailable: the database fails in a way that may pass.
        """
        with _translated(), self._session.begin() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Run a block in one transaction: committed at its end, rolled back if it raises.

        Raises:
            StoreUnavailable: the database fails in a way that may pass.
        """
        with _translated(), self._session.begin() as session:
            session.connection(execution_options={BEGIN: "BEGIN IMMEDIATE"})
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class ProjectStore:
    """One project's part of the store, by subject; each call of a subject is one transaction."""

    def __init__(self, store: Store, project_id: int) -> None:
        """Use ``Store.of``."""
        self.project_id = project_id
        self._projects = store.projects
        bound = (store.read, store.write, project_id)
        self.tasks = Tasks(*bound)
        self.rounds = Rounds(*bound)
        self.jobs = Jobs(*bound)
        self.autolabel = AutolabelOrders(*bound)
        self.dashboard = DashboardQueries(*bound)

    def row(self) -> ProjectRow:
        """Return the project's row as it is now.

        Raises:
            Superseded: the project is not in the store any more.
        """
        row = self._projects.get(self.project_id)
        if row is None:
            raise Superseded(f"project {self.project_id} is not in the store any more")
        return row

    def set(self, **values: Any) -> None:
        """Set columns of the project's row."""
        self._projects.set(self.project_id, **values)

    def read_to(self, cursor: str | None, row: ProjectRow) -> bool:
        """Move the cursor up to which tasks were read; return False if the labels are others than those of ``row``."""
        return self._projects.read_to(self.project_id, cursor, row.label_config, row.extra_params.get("control"))

    def deactivate_replaced(self) -> None:
        """Deactivate what the project has taken the place of, once Label Studio has confirmed it."""
        self._projects.deactivate_replaced(self.project_id)

    def webhook_secret(self) -> str | None:
        """Return the secret that Label Studio's webhook has to send, in clear."""
        return self._projects.webhook_secret(self.row())


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise StoreUnavailable(
            f"the database does not take it now ({error.orig}): see that its disk has room and that no other program "
            "locks it; the work goes on by itself then"
        ) from error


def _prepare(engine: Engine) -> None:
    try:
        with engine.connect().execution_options(**{BEGIN: "BEGIN IMMEDIATE"}) as connection, connection.begin():
            bring_up_to_date(connection)
    except Exception as error:
        engine.dispose()  # the caller gets no store that it could close
        if isinstance(error, DBAPIError):
            raise ConfigError(f"DATABASE_URL: the database cannot be opened ({error.orig})") from None
        raise


def open_engine(url: str) -> Engine:
    """Return the engine for ``url``; no connection is opened yet.

    Raises:
        ConfigError: SQLAlchemy does not know such a database, or has no driver for it.
    """
    try:
        if not url.startswith("sqlite"):
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    except (ArgumentError, ImportError, TypeError) as error:
        raise ConfigError(
            f"DATABASE_URL: SQLAlchemy cannot work with it ({error}); write sqlite:////path/to/file or "
            "postgresql+psycopg://user:password@host/database, and install that driver"
        ) from None

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: a read that becomes a write could then not wait its turn.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-16384"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A deferred transaction that turns into a write fails at once if another process wrote meanwhile;
        # an immediate one waits for its turn.
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))

    return engine
