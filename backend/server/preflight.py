"""Checks before anything starts; each that fails raises an error of one sentence."""

import socket
from contextlib import suppress
from importlib.util import find_spec

from backend.config import Settings
from backend.errors import ConfigError, QueueUnavailable
from backend.queueing.presence import check_others, present
from backend.queueing.queues import Queueing


def check_packages() -> None:
    """Check that the second step of the installation was done.

    Raises:
        ConfigError: it was not; the message names the command.
    """
    if find_spec("label_studio_ml") is None or find_spec("label_studio_tools") is None:
        raise ConfigError(
            "label-studio-ml is not installed: run 'pip install --no-deps -r requirements-nodeps.txt' "
            "(its own requirements are outdated, so that requirements.txt cannot bring it along)"
        )


def check_addresses(settings: Settings) -> None:
    """Check that REDIS_URL and DATABASE_URL are valid addresses; their servers may start later.

    Raises:
        ConfigError: one of them is not valid.
    """
    if settings.redis_url:
        Queueing.from_settings(settings)
    if settings.database_url:
        from backend.store.engine import open_engine  # imported here: the supervisor needs it for nothing else

        open_engine(settings.database).dispose()


def check_installation(settings: Settings) -> None:
    """Check that a database or a Redis on a server is that of this installation alone, and of this data folder.

    Raises:
        ConfigError: the database cannot be opened, others work with it in another folder, or others use this Redis.
    """
    if not (settings.database_url or settings.redis_url):
        return
    from backend.store import Store

    store = Store.from_settings(settings)
    try:
        place = store.installation.claim()
    finally:
        store.close()
    with suppress(QueueUnavailable):  # it may start later
        check_others(present(Queueing.from_settings(settings)), place.database)


def check_port(host: str, port: int, variable: str = "PORT") -> None:
    """Check that a server can listen on ``host`` and ``port``.

    variable: the environment variable that sets the port, for the message.

    Raises:
        ConfigError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror}): end what does, or set {variable} to another port"
            ) from None
