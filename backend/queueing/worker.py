"""The worker process: the functions that it may run, its identity, and the timer that advances all projects."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from rq import SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.errors import BackendError, QueueUnavailable
from backend.queueing.presence import Presence
from backend.queueing.queues import ADVANCE, BEHIND, Queueing

logger = logging.getLogger(__name__)

# What workers run.
FUNCTIONS = frozenset({f"backend.loop.jobs.{name}" for name in ("advance", "run", "score_tasks", "shard")})


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


def run_worker(presence: Presence, queueing: Queueing, tick: Callable[[], None], tick_s: float) -> None:
    """Work on the queues of a process until told to stop; with ``advance`` among them, also ``tick`` every ``tick_s``.

    presence: of this process, which has entered.
    """
    queues = presence.process.queues
    if ADVANCE in queues:
        threading.Thread(target=_tick_forever, args=(tick, tick_s), daemon=True).start()
    worker = Worker(
        [queueing.queue(name) for name in (*queues, *(BEHIND[name] for name in queues if name in BEHIND))],
        name=presence.process.name,
        connection=queueing.connection,
        job_class=AllowedJob,
        serializer=JSONSerializer,
        log_job_description=False,
    )
    worker.work(logging_level="WARNING")
    presence.leave()


def identity() -> str:
    """Return the name of this process, under which the jobs are noted that it runs."""
    return Presence.current or f"{socket.gethostname()}:pid{os.getpid()}"


def _tick_forever(tick: Callable[[], None], tick_s: float) -> None:
    while True:
        try:
            tick()
        except BackendError as error:
            logger.warning("a tick of the timer failed: %s", error)
        except Exception:  # no error of one tick may end the timer
            logger.warning("a tick of the timer failed", exc_info=True)
        time.sleep(tick_s)
