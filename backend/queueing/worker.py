"""The worker process: the functions that it may run, its identity, and the timer that advances all projects."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.config import Settings
from backend.errors import BackendError, QueueUnavailable
from backend.file_locks import is_locked, try_lock
from backend.queueing.queues import ADVANCE, PREFIX, Queueing

logger = logging.getLogger(__name__)

FUNCTIONS = frozenset({f"backend.loop.jobs.{name}" for name in ("advance", "run", "score_tasks")})  # what workers run


class AllowedJob(Job):
    """A job that runs only our functions: write access to Redis must not allow running other code."""

    def restore(self, raw_data: Any) -> None:
        """Read the job from Redis, without the callbacks and webhooks that RQ would run besides its function."""
        super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []

    def perform(self) -> Any:
        """Run the function.

        Raises:
            QueueUnavailable: the function is not one of ``FUNCTIONS``.
        """
        if self.func_name not in FUNCTIONS:
            raise QueueUnavailable(f"'{self.func_name}' is not what this backend queues: who else writes to its Redis?")
        return super().perform()


class Worker(SimpleWorker):
    """Runs jobs in its own process: PyTorch is loaded once and stays warm, and nothing is forked after it.

    A job that kills its process therefore ends the worker. The supervisor starts the worker again, and jobs resume from
    their checkpoints.
    """

    stopping = threading.Event()

    def handle_warm_shutdown_request(self) -> None:
        """Have the running job stop at its next heartbeat."""
        Worker.stopping.set()


def run_worker(settings: Settings, queues: Sequence[str], on_start: Callable[[str], None], tick: Callable[[], None],
               tick_s: float) -> None:  # fmt: skip
    """Work on ``queues`` until told to stop; with ``advance`` among them, also call ``tick`` every ``tick_s`` seconds.

    ``on_start`` gets the worker's identity. No other living worker of this host has it, so jobs that are noted under it
    were left by a dead worker and can be freed.
    """
    queueing = Queueing.from_settings(settings)
    slot = _Slot(settings, queues)
    on_start(slot.identity)
    if ADVANCE in queues:
        threading.Thread(target=_tick_forever, args=(tick, tick_s), daemon=True).start()
    worker = Worker(
        [Queue(PREFIX + name, connection=queueing.connection, serializer=JSONSerializer) for name in queues],
        connection=queueing.connection,
        job_class=AllowedJob,
        serializer=JSONSerializer,
        log_job_description=False,
    )
    worker.work(logging_level="WARNING")
    slot.close()


def identity() -> str:
    """Return the identity of this process's worker."""
    return _Slot.current or f"{socket.gethostname()}:pid{os.getpid()}"


class _Slot:
    """A numbered place among the workers of this host, held by a file lock that ends with the process."""

    current: str | None = None

    def __init__(self, settings: Settings, queues: Sequence[str]) -> None:
        folder = settings.data_dir / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        name, number = "-".join(queues), 0
        while (lock := try_lock(folder / f"{name}-{number}.lock")) is None:
            number += 1
        self._lock = lock
        self.identity = f"{socket.gethostname()}:{name}-{number}"
        _Slot.current = self.identity

    def close(self) -> None:
        self._lock.release()


def has_worker(data_dir: Path, queue: str) -> bool:
    """Return whether a worker on this data folder serves ``queue``: it holds a lock that ends with its process."""
    paths = (data_dir / "workers").glob("*.lock")
    return any(queue in path.stem.split("-")[:-1] and is_locked(path) for path in paths)


def _tick_forever(tick: Callable[[], None], tick_s: float) -> None:
    while True:
        try:
            tick()
        except BackendError as error:
            logger.warning("a tick of the timer failed: %s", error)
        except Exception:  # no error of one tick may end the timer
            logger.warning("a tick of the timer failed", exc_info=True)
        time.sleep(tick_s)
