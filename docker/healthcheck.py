"""The health check of the containers: ``python docker/healthcheck.py web | worker [QUEUES]``."""

import socket
import sys
from collections.abc import Sequence

from backend.config import Settings
from backend.errors import BackendError
from backend.queueing.presence import is_served, present
from backend.queueing.queues import QUEUES, Queueing
from backend.server.own_processes import ask

TIMEOUT_S = 4.0


def web_problem(settings: Settings) -> str | None:
    """Return what is wrong with the web server, or None."""
    try:
        ask(f"http://127.0.0.1:{settings.port}/health", TIMEOUT_S)
    except OSError as error:
        return f"no /health on port {settings.port}: {error}"
    return None


def worker_problem(settings: Settings, queues: Sequence[str] = QUEUES) -> str | None:
    """Return what is wrong with this container's workers, or None: each queue needs one, and Redis has to answer."""
    here = [one for one in present(Queueing.from_settings(settings)) if one.host == socket.gethostname()]
    idle = [queue for queue in queues if not is_served(here, queue)]
    return f"no worker for {', '.join(idle)}" if idle else None


def main(part: str, queues: str = ",".join(QUEUES)) -> int:
    """Print what is wrong, if anything; return the exit code."""
    try:
        settings = Settings.from_env()
        problem = web_problem(settings) if part == "web" else worker_problem(settings, queues.split(","))
    except BackendError as error:
        problem = str(error)
    if problem:
        print(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
