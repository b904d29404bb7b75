"""A worker process: the queues it serves, and the timer that no lost event can stop."""

from collections.abc import Sequence

from backend import queueing
from backend.config import Settings
from backend.loop import jobs


def run_worker(settings: Settings, queues: Sequence[str] = queueing.QUEUES) -> None:
    """Work on ``queues`` until told to stop."""
    queueing.run_worker(settings, queues, jobs.on_worker_start, jobs.tick, jobs.TICK_S)
