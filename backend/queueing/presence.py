"""Which processes of an installation live, on any machine: each says so in Redis every few seconds.

Redis' clock says how long ago that was, so that no machine's clock matters, and shows by how much each one is wrong.
"""

import hashlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path

from redis.exceptions import RedisError

from backend.errors import ConfigError
from backend.queueing.queues import PREFIX, Queueing, translated

logger = logging.getLogger(__name__)

BEAT_S = 3.0
DEAD_AFTER_S = 15.0  # without a sign of life
WEB, WORKER = "web", "worker"

_PROCESSES = f"{PREFIX}processes"  # a hash: what each process says of itself, and when
_RQ_WORKERS = "rq:workers"


@dataclass(frozen=True)
class Process:
    """What a process says of itself.

    name: its own alone. machine: those with the same one see each other's process ids. release: of its code. database,
    folder: their ids. data_dir: where it sees the folder. ahead_s: of its clock before Redis'.
    """

    name: str
    host: str
    machine: str
    pid: int
    part: str
    queues: tuple[str, ...]
    release: str
    database: str
    folder: str
    data_dir: str
    ahead_s: float = 0.0

    @classmethod
    def here(cls, part: str, queues: Sequence[str], *, database: str, folder: str, data_dir: Path) -> "Process":
        """Return this process as a part of the installation, WEB or WORKER."""
        host, pid = socket.gethostname(), os.getpid()
        name = f"{host[:100]}:{'-'.join((part, *queues))}-{pid}-{secrets.token_hex(3)}"
        return cls(
            name, host, _machine(), pid, part, tuple(queues), release(), database, folder, str(data_dir.resolve())
        )

    @property
    def is_dead_here(self) -> bool:
        """Whether it was a process of this machine that is not there any more."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's
            return False
        return False


class Presence:
    """Says that this process lives, from a thread of its own, until it leaves."""

    current: str | None = None  # the name of this process

    def __init__(self, queueing: Queueing, process: Process) -> None:
        """Say nothing yet."""
        self.process = process
        self._queueing = queueing
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self) -> list[str]:
        """Begin to say that this process lives; return the names of those that have died, which are forgotten.

        Raises:
            ConfigError: processes of another installation, on another database, use this Redis.
            QueueUnavailable: Redis does not answer.
        """
        entries = _entries(self._queueing)
        dead = [one.name for one, age_s in entries if age_s > DEAD_AFTER_S or one.is_dead_here]
        check_others([one for one, _ in entries if one.name not in dead], self.process.database)
        with translated():
            if dead:
                self._queueing.connection.hdel(_PROCESSES, *dead)
            self._say()
        Presence.current = self.process.name
        self._thread = threading.Thread(target=self._say_again, daemon=True)
        self._thread.start()
        return dead

    def leave(self) -> None:
        """Say that this process ends."""
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(RedisError):
            self._queueing.connection.hdel(_PROCESSES, self.process.name)

    def _say_again(self) -> None:
        while not self._left.wait(BEAT_S):
            try:
                self._say()
            except RedisError as error:
                logger.debug("could not say that this process lives: %s", error)

    def _say(self) -> None:
        before = time.time()
        now = _redis_time(self._queueing)
        ahead_s = (before + time.time()) / 2 - now
        said = {**asdict(replace(self.process, ahead_s=round(ahead_s, 1))), "at": now}
        self._queueing.connection.hset(_PROCESSES, self.process.name, json.dumps(said))


def present(queueing: Queueing) -> list[Process]:
    """Return the processes that live, by host and part.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    living = [one for one, age_s in _entries(queueing) if age_s <= DEAD_AFTER_S and not one.is_dead_here]
    return sorted(living, key=lambda one: (one.host, one.part, one.queues, one.name))


def is_served(processes: Sequence[Process], queue: str) -> bool:
    """Tell whether one of the processes is a worker of ``queue``."""
    return any(queue in one.queues for one in processes)


def of_earlier_releases(queueing: Queueing) -> list[str]:
    """Return the hosts of workers of releases that did not say that they live; of one that was killed, for minutes.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    hosts = []
    with translated():
        for raw in queueing.connection.smembers(_RQ_WORKERS):
            key = _text(raw)
            if ":" in key.removeprefix("rq:worker:"):  # our names have one; theirs were chosen by RQ
                continue
            host, queues = map(_text, queueing.connection.hmget(key, ["hostname", "queues"]))
            if host and queues.startswith(PREFIX):
                hosts.append(host)
    return sorted(hosts)


def check_others(processes: Sequence[Process], database: str) -> None:
    """Check that no process on this Redis works with another database than the one with this id.

    Raises:
        ConfigError: one does.
    """
    for one in processes:
        if one.database != database:
            raise ConfigError(
                f"REDIS_URL: the {one.part} on {one.host} uses this Redis with another database: give all processes of "
                "an installation the same DATABASE_URL, and each installation a Redis of its own"
            )


@cache
def release() -> str:
    """Return a digest of the code, which all processes of a release share."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for package in ("backend", "model") for path in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _entries(queueing: Queueing) -> list[tuple[Process, float]]:
    """Return what all processes said last, and how many seconds ago."""
    with translated():
        said = queueing.connection.hgetall(_PROCESSES)
        now = _redis_time(queueing)
    known = {field.name for field in fields(Process)}
    entries = []
    for text in said.values():
        try:
            values = json.loads(text)
            age_s = now - float(values["at"])
            process = Process(**{name: value for name, value in values.items() if name in known})
            entries.append((replace(process, queues=tuple(process.queues)), age_s))
        except (ValueError, TypeError, KeyError):  # another release's
            logger.debug("a process said what this release does not read: %s", text)
    return entries


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _redis_time(queueing: Queueing) -> float:
    seconds, microseconds = queueing.connection.time()
    return float(seconds + microseconds / 1e6)


@cache
def _machine() -> str:
    """Return what tells this machine, since it was started, and this container on it, from all others."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - no path
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
