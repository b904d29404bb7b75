"""Queues on RQ and Redis: waking projects, long jobs, and the lock of a project.

Redis holds nothing that cannot be found again: what has to be done follows from the store and from Label Studio.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import LockError, RedisError, ResponseError
from rq import Queue
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from backend.config import Settings
from backend.errors import ConfigError, QueueUnavailable
from backend.queueing.meters import Meters

logger = logging.getLogger(__name__)

ADVANCE, IO, TRAIN = "advance", "io", "train"
QUEUES = (ADVANCE, IO, TRAIN)
TIMER = "timer"  # hints of the timer, behind those of people and jobs: of fifty projects, nobody waits for all others
SHARDS = "shards"  # parts of jobs of IO, which its workers do when no job waits
BEHIND = {ADVANCE: TIMER, IO: SHARDS}  # what workers of a queue do when nothing waits in it

PREFIX = "pt4al:"
WAKE_TTL_S = 30  # a wake that was lost with its worker blocks later ones no longer than this
LOCK_TTL_S = 15.0  # renewed while held; a killed holder blocks others no longer than this
LOCK_WAIT_S = 30.0
FAILURE_TTL_S = 3600
RESULT_TTL_S = 120
CONNECT_TIMEOUT_S = 2.0
TIME_SLICE_S = 5.0
POLL_S = 0.05


class Queueing:
    """The queues on one Redis."""

    def __init__(self, url: str) -> None:
        """Use the Redis at ``url``; nothing is sent yet.

        Raises:
            ConfigError: ``url`` is not the address of a Redis.
        """
        try:
            self.connection = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_TIMEOUT_S, health_check_interval=30, client_name="pt4al"
            )
        except ValueError as error:
            raise ConfigError(f"REDIS_URL: {error}; write redis://host:6379/0 or unix:///path") from None
        self.meters = Meters(self.connection)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Queueing":
        """Return the queues on REDIS_URL, or on the private Redis of this data folder."""
        return cls(redis_url(settings))

    def ping(self) -> bool:
        """Return whether Redis answers."""
        try:
            return bool(self.connection.ping())
        except RedisError:
            return False

    def wake(self, project_id: int, *, timer: bool = False) -> bool:
        """Queue ``advance(project_id)``; return False if one is waiting already.

        timer: nothing has happened that is known of; it waits behind the others.

        Raises:
            QueueUnavailable: Redis does not answer or is full; the timer will advance the project later.
        """
        with translated():
            if not self.connection.set(_mark(project_id, timer), 1, nx=True, ex=WAKE_TTL_S):
                return False
            self.queue(TIMER if timer else ADVANCE).enqueue(
                "backend.loop.jobs.advance", project_id, *([True] if timer else []), job_timeout=-1, result_ttl=0,
                failure_ttl=FAILURE_TTL_S,
            )  # fmt: skip
        return True

    def wake_received(self, project_id: int, timer: bool = False) -> None:
        """Note that ``advance(project_id)`` has begun: a wake from now on queues another one."""
        with translated():
            self.connection.delete(_mark(project_id, timer))

    def is_woken(self, project_id: int) -> bool:
        """Return whether another ``advance(project_id)`` is waiting that somebody asked for."""
        with translated():
            return bool(self.connection.exists(_mark(project_id, False)))

    def enqueue(self, queue: str, kind: str, project_id: int, token: str) -> None:
        """Queue the long job ``kind``; its token is also its id in RQ.

        Raises:
            QueueUnavailable: Redis does not answer or is full.
        """
        with translated():
            self.queue(queue).enqueue(
                "backend.loop.jobs.run",
                kind,
                project_id,
                token,
                job_id=token,
                job_timeout=-1,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_S,
            )

    def is_queued(self, token: str) -> bool:
        """Return whether the job still waits for a worker; True if Redis does not answer."""
        try:
            job = Job.fetch(token, connection=self.connection, serializer=JSONSerializer)
            return job.get_status(refresh=False) == JobStatus.QUEUED
        except NoSuchJobError:
            return False
        except RedisError:
            return True

    def ask(self, queue: str, function: str, *args: Any, timeout_s: float) -> Any:
        """Have a worker run ``function`` before all waiting jobs; return its result, or None if it took too long.

        Raises:
            QueueUnavailable: Redis does not answer or is full.
        """
        with translated():
            job = self.queue(queue).enqueue(
                function, *args, at_front=True, job_timeout=-1, ttl=int(timeout_s), result_ttl=RESULT_TTL_S,
                failure_ttl=RESULT_TTL_S,
            )  # fmt: skip
            deadline = time.monotonic() + timeout_s
            while time.monotonic() < deadline:
                try:
                    status = job.get_status()
                    if status == JobStatus.FINISHED:
                        return job.return_value()
                except (NoSuchJobError, InvalidJobOperation):  # Redis was emptied
                    return None
                if status == JobStatus.FAILED:
                    return None
                time.sleep(POLL_S)
        return None

    @contextmanager
    def lock(self, project_id: int) -> Iterator[bool]:
        """Hold the project's lock during the block; yield whether it is held: False if another held it for too long."""
        with translated():
            lock = self.connection.lock(
                f"{PREFIX}lock:{project_id}",
                timeout=LOCK_TTL_S,
                blocking_timeout=LOCK_WAIT_S,
                thread_local=False,  # another thread renews it
            )
            held = lock.acquire()
        if not held:
            yield False
            return
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LOCK_TTL_S / 3):
                try:
                    lock.reacquire()
                except (RedisError, LockError):
                    logger.debug("the lock of project %s could not be renewed", project_id)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield True
        finally:
            done.set()
            thread.join()
            try:
                lock.release()
            except (RedisError, LockError):
                logger.debug("the lock of project %s had expired", project_id)

    def full(self) -> str | None:
        """Return Redis' reason for taking no data, or None if it takes data.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        try:
            self.connection.set(f"{PREFIX}probe", "x" * 1000, ex=1)
        except ResponseError as error:
            return str(error)
        except RedisError as error:
            raise QueueUnavailable(f"Redis does not answer: {error}") from error
        return None

    def memory(self) -> tuple[int, int]:
        """Return the bytes that Redis uses, and its limit (0: none).

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        with translated():
            info: dict[str, int] = self.connection.info("memory")
        return int(info["used_memory"]), int(info.get("maxmemory", 0))

    def depth(self, queue: str) -> int:
        """Return the number of waiting jobs.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        with translated():
            return int(self.queue(queue).count)

    def queue(self, name: str) -> Queue:
        """Return a queue of RQ by its name here."""
        return Queue(PREFIX + name, connection=self.connection, serializer=JSONSerializer)


class TimeSlice:
    """The time that a job may keep a worker while others wait; it then ends and is queued again behind them."""

    def __init__(self, queueing: Queueing, queue: str, seconds: float | None = None) -> None:
        """Start the time now. seconds: of it; None for TIME_SLICE_S."""
        self._queueing, self._queue = queueing, queue
        self._until = time.monotonic() + (TIME_SLICE_S if seconds is None else seconds)

    def expired(self) -> bool:
        """Return whether the job should end now and be queued again."""
        if time.monotonic() < self._until:
            return False
        try:
            return self._queueing.depth(self._queue) > 0
        except QueueUnavailable:
            return False


def _mark(project_id: int, timer: bool) -> str:
    return f"{PREFIX}{'timer' if timer else 'wake'}:{project_id}"


def redis_url(settings: Settings) -> str:
    """Return REDIS_URL, else the address of the private Redis of this data folder.

    Raises:
        QueueUnavailable: there is neither.
    """
    if settings.redis_url:
        return settings.redis_url.get_secret_value()
    address = settings.data_dir / "redis" / "url"
    try:
        return address.read_text().strip()
    except OSError:
        raise QueueUnavailable(
            f"no Redis: REDIS_URL is not set and no private one runs for {settings.data_dir}; "
            "start everything with 'python -m backend serve', or set REDIS_URL"
        ) from None


@contextmanager
def translated() -> Iterator[None]:
    """Run a block of calls of Redis.

    Raises:
        QueueUnavailable: Redis does not answer or is full.
    """
    try:
        yield
    except RedisError as error:
        raise QueueUnavailable(f"Redis does not take jobs: {error}") from error
