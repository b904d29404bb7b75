"""gunicorn with our settings, the same for every way to start the web server."""

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
THREADS = 16  # at least 5 stay free of waiting predictions (3), large bodies (2) and large answers (6)
CONNECTIONS = 512  # per process; file descriptors are often limited to 1,024
TIMEOUT_S = 60
GRACE_S = 5


class Log(Logger):
    """Passes gunicorn's log lines to the logging of this process."""

    def setup(self, cfg: Any) -> None:
        """Use the handlers of the root logger."""
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log an error; a client that was too slow is not one, and must not fill the log."""
        if is_slow_client():
            self.error_log.info("a client was too slow and is not served any further")
        else:
            super().exception(msg, *args, **kwargs)


class WebServer(BaseApplication):
    """Starts and supervises the processes that answer HTTP."""

    def __init__(self, host: str, port: int) -> None:
        """Serve on ``host`` and ``port``."""
        self._bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's settings; its configuration files and flags are not read."""
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
            # The control socket lies in the home folder, which a container's user may not have.
            "control_socket_disable": True,
            # Heartbeats in memory: on a disk under load they can stall a worker.
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,
            "post_fork": lambda arbiter, worker: die_with_parent(arbiter.pid),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return a new application; called once in each process."""
        from backend.web.app import create_app
        from backend.web.services import enter

        app = create_app()
        enter(app)
        return app


def warn_if_open(settings: Settings, host: str) -> None:
    """Log a warning where everybody in the network can reach the port and no password is set."""
    if host in ALL_ADDRESSES and not settings.basic_auth_user:
        logger.warning(
            "whoever reaches port %d may see all images and press all buttons: set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, or, where Label Studio runs on this machine, start with --host 127.0.0.1",
            settings.port,
        )
