"""Shards in Redis: parts of a job that any worker may do. What they make lies in files; Redis has their names only."""

import time

from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from backend.queueing.presence import DEAD_AFTER_S, Presence, is_served, present
from backend.queueing.queues import FAILURE_TTL_S, IO, SHARDS, Queueing, translated

LOOK_S = 5.0  # how often it is looked who works


class ShardQueue:
    """The shards of one project that wait for a worker, behind all jobs of the queue ``io``."""

    def __init__(self, queueing: Queueing, project_id: int) -> None:
        """Hand out nothing yet."""
        self._queueing, self._project_id = queueing, project_id
        self._living: set[str] = set()
        self._helpers = 0
        self._looked_at: float | None = None
        self._silent: dict[str, float] = {}

    def helpers(self) -> int:
        """Return how many other workers could do shards, on any machine.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        self._look()
        return self._helpers

    def hand_out(self, key: str) -> None:
        """Let a worker do a shard, unless it waits for one already.

        Raises:
            QueueUnavailable: Redis does not answer or is full.
        """
        with translated():
            if not Job.exists(key, connection=self._queueing.connection):
                self._queueing.queue(SHARDS).enqueue(
                    "backend.loop.jobs.shard", self._project_id, key, job_id=key, job_timeout=-1, result_ttl=0,
                    failure_ttl=FAILURE_TTL_S,
                )  # fmt: skip

    def take_back(self, key: str) -> bool:
        """Keep others from doing a shard; return False if one has begun it, or it was never handed out.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        with translated():
            taken = bool(self._queueing.queue(SHARDS).remove(key))
            if taken:
                self.forget(key)
            return taken

    def forget(self, key: str) -> None:
        """Delete what Redis knows of a shard that is done, or that failed.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        self._silent.pop(key, None)
        with translated():
            try:
                Job.fetch(key, connection=self._queueing.connection, serializer=JSONSerializer).delete()
            except NoSuchJobError:
                return

    def is_at_work(self, key: str) -> bool:
        """Tell whether a living worker has begun a shard, and has not failed at it.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        with translated():
            try:
                job = Job.fetch(key, connection=self._queueing.connection, serializer=JSONSerializer)
            except NoSuchJobError:
                return False
        self._look()
        if job.is_failed:
            return False
        if job.worker_name:
            return job.worker_name in self._living
        # Between taking a job and saying so, a worker may die.
        return time.monotonic() - self._silent.setdefault(key, time.monotonic()) < DEAD_AFTER_S

    def _look(self) -> None:
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < LOOK_S:
            return
        processes = present(self._queueing)
        self._living = {one.name for one in processes}
        self._helpers = sum(is_served([one], IO) for one in processes if one.name != Presence.current)
        self._looked_at = now
