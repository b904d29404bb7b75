"""The health check of the containers: ``python docker/healthcheck.py web | worker``."""

import sys

from backend.config import Settings
from backend.errors import BackendError
from backend.queueing.queues import QUEUES, Queueing
from backend.queueing.worker import has_worker
from backend.server.own_processes import ask

TIMEOUT_S = 4.0


def web_problem(settings: Settings) -> str | None:
    """Return what is wrong with the web server, or None."""
    try:
        ask(f"http://127.0.0.1:{settings.port}/health", TIMEOUT_S)
    except OSError as error:
        return f"no /health on port {settings.port}: {error}"
    return None


def worker_problem(settings: Settings) -> str | None:
    """Return what is wrong with the workers, or None: each queue needs a worker, and Redis has to answer."""
    if not Queueing.from_settings(settings).ping():
        return "Redis does not answer"
    idle = [queue for queue in QUEUES if not has_worker(settings.data_dir, queue)]
    return f"no worker for {', '.join(idle)}" if idle else None


def main(part: str) -> int:
    """Print what is wrong, if anything; return the exit code."""
    try:
        problem = {"web": web_problem, "worker": worker_problem}[part](Settings.from_env())
    except BackendError as error:
        problem = str(error)
    if problem:
        print(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
