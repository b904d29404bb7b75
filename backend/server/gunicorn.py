"""gunicorn around the application, set up in one place for every way to start it."""

import logging
import os
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from backend.config import Settings
from backend.server.gunicorn_worker import Worker, is_slow_client
from backend.server.supervisor import die_with_parent

logger = logging.getLogger(__name__)

ALL_ADDRESSES = frozenset({"0.0.0.0", "::", ""})
WORKERS = 2
THREADS = 16  # of which waiting predictions (3), large bodies (2) and large answers (6) leave 5 in any case
CONNECTIONS = 512  # of a process; file descriptors are often limited to 1,024
TIMEOUT_S = 60
GRACE_S = 5


class Log(Logger):
    """gunicorn's own lines, written as all others are."""

    def setup(self, cfg: Any) -> None:
        """Hand everything on to this process's logging."""
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Note an error; that a client was too slow is none of ours, and must not fill the log."""
        if is_slow_client():
            self.error_log.info("a client was too slow and is not served any further")
        else:
            super().exception(msg, *args, **kwargs)


class WebServer(BaseApplication):
    """The arbiter of the processes that answer HTTP."""

    def __init__(self, host: str, port: int) -> None:
        """Serve on that address."""
        self._bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn up; its own files and flags are not read."""
        settings: dict[str, Any] = {
            "bind": self._bind,
            "workers": WORKERS,
            "worker_class": Worker,
            "threads": THREADS,
            "worker_connections": CONNECTIONS,
            "timeout": TIMEOUT_S,
            "graceful_timeout": GRACE_S,
            "logger_class": Log,
            "proc_name": "pt4al-web",
            # It would write into the home folder, which a container's user may not have.
            "control_socket_disable": True,
            # Heartbeats in memory: on a disk under load they can stall a worker.
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,
            "post_fork": lambda arbiter, worker: die_with_parent(arbiter.pid),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make the application, once in each process."""
        from backend.web.app import create_app

        return create_app()


def warn_if_open(settings: Settings, host: str) -> None:
    """Say so where everybody in the network may come in: Label Studio has to, so that it cannot be the exception."""
    if host in ALL_ADDRESSES and not settings.basic_auth_user:
        logger.warning(
            "whoever reaches port %d may see all images and press all buttons: set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, or, where Label Studio runs on this machine, start with --host 127.0.0.1",
            settings.port,
        )
