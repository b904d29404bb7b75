"""``copy-database``: from one machine's SQLite to PostgreSQL, while nothing runs."""

from backend.config import Settings
from backend.errors import ConfigError, QueueUnavailable
from backend.queueing.presence import Process, present
from backend.queueing.queues import Queueing
from backend.server.serve import only_one
from backend.store.copying import copy_database


def copy(settings: Settings, source: str | None) -> int:
    """Copy the database of the data folder, or ``source``, into the one that DATABASE_URL names; return the exit code.

    Raises:
        ConfigError: DATABASE_URL is not set, something runs on the data folder, or the copy cannot be made.
    """
    if settings.database_url is None:
        raise ConfigError(
            "DATABASE_URL: set it to the database to copy into, such as postgresql://user:password@host/database"
        )
    with only_one(settings.data_dir):
        for one in _present(settings):
            raise ConfigError(f"the {one.part} on {one.host} runs: stop web and workers on all machines first")
        copy_database(source or settings.own_database, settings.database, lambda line: print(line, flush=True))
    print("Everything is there. Start web and workers with this DATABASE_URL and the same DATA_DIR.")
    return 0


def _present(settings: Settings) -> list[Process]:
    try:
        return present(Queueing.from_settings(settings))
    except QueueUnavailable:  # without Redis nothing is at work
        return []
