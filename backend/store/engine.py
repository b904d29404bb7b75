"""SQLite and PostgreSQL behind one face: engines, transactions, and their errors as sentences.

The queries rely on one writer at a time: they read, decide and write in one transaction. SQLite has no more than one.
PostgreSQL gets advisory locks that end with the transaction: one of each project, and one of all for what concerns
several. SERIALIZABLE would not do: a transaction that it refuses has to run again from the start, and these are blocks
of callers.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from backend.errors import ConfigError, StoreUnavailable

CONNECTIONS = 10  # of one process at a time
BUSY_TIMEOUT_S = 30.0  # how long a write waits for those of other processes
CONNECT_TIMEOUT_S = 10
# A machine that has lost its power in the middle of a write would hold its lock for hours.
SILENT_S, PROBE_S, PROBES = 30, 10, 3  # a connection is asked for a sign of life after, every, and so often
CLOCK_S = 60.0  # after which the database is asked for its time again
IDLE_S = 300  # a transaction that does nothing for so long is ended
BEGIN = "pt4al_begin"  # execution option: how SQLite begins the transaction
LOCKS = 1_347_695_692  # "PT4L": the first half of the keys of our advisory locks; the second is a project, 0 for all
POSTGRES, SQLITE = "postgresql", "sqlite"
READ_ONLY = "25006"  # PostgreSQL's code of a write to a server that is a copy of another
_REASON = 400  # characters of the driver's words
_HINT = (
    "write sqlite:////path/to/file or postgresql://user:password@host/database, with %-codes for what addresses use "
    "themselves (%40 for @, %2F for /, %3A for :)"
)


def open_engine(url: str, connections: int = CONNECTIONS) -> Engine:
    """Return the engine for ``url``; no connection is opened yet, and at most ``connections`` are at any time.

    Raises:
        ConfigError: SQLAlchemy does not know such a database, or has no driver for it.
    """
    parsed = _parsed(url)
    try:
        if parsed.get_backend_name() == SQLITE:
            return _sqlite(parsed)
        if parsed.get_backend_name() == POSTGRES:
            return _postgres(parsed, connections)
        return create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, ImportError, TypeError) as error:
        raise ConfigError(f"DATABASE_URL: SQLAlchemy cannot work with it ({error}); {_HINT}") from None


def is_postgres(engine: Engine | Connection) -> bool:
    """Tell whether a database is PostgreSQL."""
    return engine.dialect.name == POSTGRES


def one_state(engine: Engine) -> Engine:
    """Return the engine for transactions that only read, each on one consistent state."""
    if not is_postgres(engine):
        return engine  # every transaction of SQLite is one
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


class Clock:
    """The time that all processes of a database agree on: PostgreSQL's. SQLite has those of one machine alone."""

    def __init__(self, engine: Engine) -> None:
        """Ask nothing yet."""
        self._engine = engine
        self._ahead_s = 0.0
        self._asked_at: float | None = None

    @property
    def ahead_s(self) -> float:
        """How many seconds it is before the clock of this machine."""
        if is_postgres(self._engine) and (self._asked_at is None or time.monotonic() - self._asked_at > CLOCK_S):
            with translated(), self._engine.connect() as connection:
                before = time.time()
                now = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
                self._ahead_s = float(now or before) - (before + time.time()) / 2
            self._asked_at = time.monotonic()
        return self._ahead_s

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return time.time() + self.ahead_s


def writing(session: Session, project_id: int | None = None) -> None:
    """Begin the transaction of a session as a write of one project, or of anything, and wait for its turn."""
    take_turn(session.connection(execution_options={BEGIN: "BEGIN IMMEDIATE"}), project_id)


def take_turn(connection: Connection, project_id: int | None = None) -> None:
    """Wait until nobody else writes the project, or without it anything, until the end of the transaction."""
    if not is_postgres(connection):
        return
    # The transaction is READ COMMITTED: what it reads behind the lock is what the writers before have left.
    if project_id is None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:locks, 0)"), {"locks": LOCKS})
    else:
        locks = text("SELECT pg_advisory_xact_lock_shared(:locks, 0), pg_advisory_xact_lock(:locks, :project)")
        connection.execute(locks, {"locks": LOCKS, "project": project_id})


@contextmanager
def translated() -> Iterator[None]:
    """Run a block, and raise what may pass of the database's errors in words.

    Raises:
        StoreUnavailable: the database is locked, full, away, or has no connection left.
        ConfigError: a value is longer or larger than its column, which SQLite does not mind.
    """
    try:
        yield
    except NoConnection as error:
        raise StoreUnavailable(
            "all connections of this process to the database are in use: raise DATABASE_CONNECTIONS if this happens "
            "often; the work goes on by itself"
        ) from error
    except DataError as error:
        raise ConfigError(f"a name, an address or a number does not fit into the database ({reason(error)})") from error
    except DBAPIError as error:
        if not _may_pass(error):
            raise
        raise StoreUnavailable(
            f"the database does not take it now ({reason(error)}): see that it runs, that its disk has room and that "
            "no other program locks it; the work goes on by itself then"
        ) from error


def reason(error: DBAPIError) -> str:
    """Return what the driver says of an error, on one line; neither statements nor passwords are in it."""
    said = " ".join(str(error.orig).split())
    return said if len(said) <= _REASON else f"{said[:_REASON]} ..."


def _may_pass(error: DBAPIError) -> bool:
    away = isinstance(error, OperationalError) or error.connection_invalidated
    return away or getattr(error.orig, "sqlstate", None) == READ_ONLY


def _parsed(url: str) -> URL:
    # "postgres://" is what many services hand out.
    if url.startswith("postgres://"):
        url = url.replace("postgres", POSTGRES, 1)
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, ImportError) as error:
        raise ConfigError(f"DATABASE_URL: SQLAlchemy cannot work with it ({error}); {_HINT}") from None
    except ValueError:  # its text may hold a part of the password
        raise ConfigError(f"DATABASE_URL: the address has no port where one should be; {_HINT}") from None
    if "@" in (parsed.host or ""):  # it would be shown as the host
        raise ConfigError(f"DATABASE_URL: the password has an @ in it; {_HINT}")
    return parsed.set(drivername=f"{POSTGRES}+psycopg") if parsed.drivername == POSTGRES else parsed


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

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


def _postgres(url: URL, connections: int) -> Engine:
    given = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "client_encoding": "utf8",
        "application_name": "pt4al",
        "keepalives_idle": SILENT_S,
        "keepalives_interval": PROBE_S,
        "keepalives_count": PROBES,
    }
    engine = create_engine(
        url,
        pool_pre_ping=True,  # a connection that the server has ended is replaced unnoticed
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={name: value for name, value in given.items() if name not in url.query},
    )
    if url.get_driver_name() == "psycopg":
        from backend.store.postgres_values import register  # only where the driver is in use

        event.listen(engine, "connect", lambda connection, _: register(connection))

    @event.listens_for(engine, "connect")
    def _limits(connection: Any, _record: Any) -> None:
        limits = {
            "lock_timeout": f"{BUSY_TIMEOUT_S:g}s",
            "idle_in_transaction_session_timeout": f"{IDLE_S}s",
            "tcp_keepalives_idle": SILENT_S,
            "tcp_keepalives_interval": PROBE_S,
            "tcp_keepalives_count": PROBES,
        }
        with connection.cursor() as cursor:
            cursor.execute("; ".join(f"SET {name} = '{value}'" for name, value in limits.items()))
        connection.commit()

    return engine
