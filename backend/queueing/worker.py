"""The workers: what they may run, who they are, and the timer that no lost event can stop."""

import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.config import Settings
from backend.errors import BackendError, QueueUnavailable
from backend.queueing.queues import ADVANCE, PREFIX, Queueing

logger = logging.getLogger(__name__)

FUNCTIONS = frozenset({f"backend.loop.jobs.{name}" for name in ("advance", "run", "score_tasks")})  # what workers run


class OurJob(Job):
    """One of our functions and nothing else: whoever can write to Redis must not be able to run code of his own."""

    def restore(self, raw_data: Any) -> None:
        """Read the job from Redis, without what RQ would call or send besides its function."""
        super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []

    def perform(self) -> Any:
        """Run the function, if it is ours."""
        if self.func_name not in FUNCTIONS:
            raise QueueUnavailable(f"'{self.func_name}' is not what this backend queues: who else writes to its Redis?")
        return super().perform()


class Worker(SimpleWorker):
    """Runs jobs in its own process: PyTorch is loaded once and stays warm, and nothing is forked after it.

    The price is isolation: a job that kills the process takes the worker along. The supervisor starts it again, and
    jobs resume from their checkpoints.
    """

    stopping = threading.Event()

    def handle_warm_shutdown_request(self) -> None:
        """Tell the running job to stop at its next sign of life."""
        Worker.stopping.set()


def run_worker(settings: Settings, queues: Sequence[str], on_start: Callable[[str], None], tick: Callable[[], None],
               tick_s: float) -> None:  # fmt: skip
    """Work on ``queues`` until told to stop; the one that advances also calls ``tick`` every ``tick_s`` seconds.

    ``on_start`` gets the worker's identity, which no living worker of this host shares, so that what a dead
    predecessor was doing can be freed.
    """
    queueing = Queueing.from_settings(settings)
    slot = _Slot(settings, queues)
    on_start(slot.identity)
    if ADVANCE in queues:
        threading.Thread(target=_tick_forever, args=(tick, tick_s), daemon=True).start()
    worker = Worker(
        [Queue(PREFIX + name, connection=queueing.connection, serializer=JSONSerializer) for name in queues],
        connection=queueing.connection,
        job_class=OurJob,
        serializer=JSONSerializer,
        log_job_description=False,
    )
    worker.work(logging_level="WARNING")
    slot.close()


def identity() -> str:
    """Give the identity of this process's worker."""
    return _Slot.current or f"{socket.gethostname()}:pid{os.getpid()}"


class _Slot:
    """A numbered place among the workers of this host, held by a file lock that ends with the process."""

    current: str | None = None

    def __init__(self, settings: Settings, queues: Sequence[str]) -> None:
        folder = settings.data_dir / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        name = "-".join(queues)
        number = 0
        while True:
            self._file: TextIO = (folder / f"{name}-{number}.lock").open("a")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                self._file.close()
                number += 1
        self.identity = f"{socket.gethostname()}:{name}-{number}"
        _Slot.current = self.identity

    def close(self) -> None:
        self._file.close()


def has_worker(data_dir: Path, queue: str) -> bool:
    """Tell whether a worker on this data folder serves a queue: it holds a lock that ends with its process."""
    for path in (data_dir / "workers").glob("*.lock"):
        if queue in path.stem.split("-")[:-1] and _is_locked(path):
            return True
    return False


def _is_locked(path: Path) -> bool:
    with path.open() as place:
        try:
            fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _tick_forever(tick: Callable[[], None], tick_s: float) -> None:
    while True:
        try:
            tick()
        except BackendError as error:
            logger.warning("a tick of the timer failed: %s", error)
        except Exception:  # the timer outlives whatever one tick meets
            logger.warning("a tick of the timer failed", exc_info=True)
        time.sleep(tick_s)
