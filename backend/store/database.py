"""The store: opening it, its transactions, and its part of each project."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Self

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy.orm import Session, sessionmaker

from backend.config import Settings
from backend.errors import ConfigError, Superseded
from backend.file_locks import wait_for_lock
from backend.store.autolabel_orders import AutolabelOrders
from backend.store.dashboard_queries import DashboardQueries
from backend.store.engine import CONNECTIONS, Clock, is_postgres, one_state, open_engine, translated, writing
from backend.store.installation import Installation
from backend.store.jobs import Jobs, release_worker
from backend.store.projects import Projects
from backend.store.rounds import Rounds
from backend.store.schema import opened_schema
from backend.store.tables import ProjectRow
from backend.store.tasks import Tasks
from model.data.atomic_files import write_once

logger = logging.getLogger(__name__)


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
            self._fernet = Fernet(write_once(key_file, Fernet.generate_key()))

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

    def __init__(self, url: str, data_dir: Path, connections: int = CONNECTIONS) -> None:
        """Open the database at ``url``, creating what is missing; at most so many ``connections`` at a time.

        Raises:
            ConfigError: the database or the data folder cannot be opened.
        """
        self.engine, self.data_dir = open_engine(url, connections), data_dir
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            # Web and workers start at once: one of them makes key and tables, the others find them. PostgreSQL has them
            # wait for each other, on any machine; SQLite cannot while it has no tables yet.
            alone = nullcontext() if is_postgres(self.engine) else wait_for_lock(data_dir / "store.lock")
            with alone, opened_schema(self.engine):
                cipher = Cipher(data_dir / "secret.key")
        except OSError as error:
            raise ConfigError(f"DATA_DIR: the data folder {data_dir.resolve()} takes no files ({error})") from error
        self._session = sessionmaker(self.engine, expire_on_commit=False)
        self._reading = sessionmaker(one_state(self.engine), expire_on_commit=False)
        self.projects = Projects(self.read, self.write, cipher.encrypt, cipher.decrypt)
        self.clock = Clock(self.engine)
        self.installation = Installation(self.read, self.write, self.clock, data_dir)
        self._of: dict[int, ProjectStore] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Open the database that the settings name; raises as the constructor does."""
        return cls(settings.database, settings.data_dir, settings.database_connections)

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
        with translated(), self._reading.begin() as session:
            yield session

    @contextmanager
    def write(self, project_id: int | None = None) -> Iterator[Session]:
        """Run a block in one transaction: committed at its end, rolled back if it raises.

        project_id: of the project whose rows alone are written. No other process writes them meanwhile; without it, no
        other process writes anything, so that what the block has read is true until its end.

        Raises:
            StoreUnavailable: the database fails in a way that may pass.
        """
        with translated(), self._session.begin() as session:
            writing(session, project_id)
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
        bound = (store.read, partial(store.write, project_id), project_id)
        self.tasks = Tasks(*bound)
        self.rounds = Rounds(*bound)
        self.jobs = Jobs(*bound, store.clock)
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
        return self._projects.read_to(self.project_id, cursor, row.label_config, row.extra_params)

    def deactivate_replaced(self) -> None:
        """Deactivate what the project has taken the place of, once Label Studio has confirmed it."""
        self._projects.deactivate_replaced(self.project_id)

    def webhook_secret(self) -> str | None:
        """Return the secret that Label Studio's webhook has to send, in clear."""
        return self._projects.webhook_secret(self.row())
