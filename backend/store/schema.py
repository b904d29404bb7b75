"""The schema's version: a new database gets the newest tables, an older one is migrated.

A change of ``tables.py`` goes with a new revision in ``migrations/versions`` (see docs/development.md); a test compares
what the revisions lead to with ``tables.py``.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from backend.errors import ConfigError
from backend.store.engine import BEGIN, is_postgres, reason, take_turn
from backend.store.tables import Base

logger = logging.getLogger(__name__)

FIRST = "0001"  # of databases without a version table
NEWEST = "0015"
UNFINISHED = "unfinished_copy"  # a table that is there while ``copying`` has not copied everything
_VERSION_TABLE = "alembic_version"


@contextmanager
def opened_schema(engine: Engine) -> Iterator[None]:
    """Open a database for the first time in a process: create what is missing, or migrate it; one process at a time.

    Processes on several machines wait for each other in the database, for as long as a migration takes, and the block.

    Raises:
        ConfigError: it cannot be opened, or belongs to a newer release. The engine is of no use then.
    """
    try:
        with engine.connect().execution_options(**{BEGIN: "BEGIN IMMEDIATE"}) as connection, connection.begin():
            if is_postgres(connection):
                _check_encoding(connection)
                connection.execute(text("SET LOCAL lock_timeout = 0"))
            take_turn(connection)
            bring_up_to_date(connection)
            yield
    except Exception as error:
        engine.dispose()  # the caller gets no store that it could close
        if isinstance(error, DBAPIError):
            raise ConfigError(f"DATABASE_URL: the database cannot be opened ({reason(error)})") from None
        raise


def open_schema(engine: Engine) -> None:
    """Do the same without a block; raises as ``opened_schema``."""
    with opened_schema(engine):
        pass


def bring_up_to_date(connection: Connection) -> None:
    """Create what is missing, or migrate an older schema, within the connection's transaction.

    Raises:
        ConfigError: the database belongs to a newer release or to another program, or has half of a copy.
    """
    tables = set(inspect(connection).get_table_names())
    if UNFINISHED in tables:
        raise ConfigError(
            "DATABASE_URL: the database was not copied to its end: run 'python -m backend copy-database' once more"
        )
    if "project" in tables and "ask" not in tables:
        whose = "Label Studio's" if "django_migrations" in tables else "another program's"
        raise ConfigError(f"DATABASE_URL: the database is {whose}: make one of its own for this backend")
    if "project" not in tables:
        Base.metadata.create_all(connection)
        _stamp(connection, NEWEST)
        return
    if _VERSION_TABLE not in tables:
        _stamp(connection, FIRST)
    stored = connection.scalar(text(f"SELECT version_num FROM {_VERSION_TABLE}"))
    if stored == NEWEST:
        return
    if stored is None or stored > NEWEST:
        raise ConfigError(
            f"DATABASE_URL: the database has schema {stored}, this release knows {NEWEST}: it was written by a newer "
            "release. Start that one, or restore the backup from before the upgrade."
        )
    migrate(connection, NEWEST)
    logger.info("the database was migrated from schema %s to %s", stored, NEWEST)


def migrate(connection: Connection, revision: str) -> None:
    """Run the migrations up to ``revision``."""
    # The import takes time, and only a database of an older release needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _check_encoding(connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise ConfigError(
            f"DATABASE_URL: the database keeps texts in {encoding}, which cannot take every class and title: make one "
            "with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def _stamp(connection: Connection, revision: str) -> None:
    connection.execute(
        text(f"CREATE TABLE IF NOT EXISTS {_VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(text(f"DELETE FROM {_VERSION_TABLE}"))
    connection.execute(text(f"INSERT INTO {_VERSION_TABLE} VALUES (:revision)"), {"revision": revision})
