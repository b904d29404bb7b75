"""Durations and failures, counted in Redis by every process, so that one scrape sees all of them.

If Redis loses the counts, nothing else is lost: Prometheus treats a counter that starts at zero as a restart.
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

import redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

BOUNDS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
STUDIO_METER, JOB_METER = "studio", "job"
PREFIX = "pt4al:meter:"
AWAY_S = 10.0  # after a failure nothing is counted for this long: measuring must not cost time


@dataclass
class Timings:
    """The durations of one operation: the number in each bucket (the last is unbounded), and the sum in seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0


class Meters:
    """Counts durations, and returns the counts."""

    def __init__(self, connection: redis.Redis) -> None:
        """Count in this Redis."""
        self._connection = connection
        self._away_until = 0.0

    def note(self, meter: str, operation: str, seconds: float, ok: bool = True) -> None:
        """Count that ``operation`` took ``seconds`` and whether it succeeded; without Redis, do nothing."""
        if time.monotonic() < self._away_until:
            return
        name = f"{operation}|{'ok' if ok else 'failed'}"
        try:
            with self._connection.pipeline(transaction=False) as pipeline:
                pipeline.hincrby(PREFIX + meter, f"{name}|{bisect_left(BOUNDS_S, seconds)}")
                pipeline.hincrbyfloat(PREFIX + meter, f"{name}|sum", round(seconds, 6))
                pipeline.execute()
        except RedisError as error:
            self._away_until = time.monotonic() + AWAY_S
            logger.debug("a duration was not counted: %s", error)

    def read(self, meter: str) -> dict[tuple[str, str], Timings]:
        """Return the durations by (operation, "ok" or "failed"); empty without Redis."""
        durations: dict[tuple[str, str], Timings] = {}
        for name, value in self._raw(meter).items():
            operation, outcome, part = name.decode().rsplit("|", 2)
            timings = durations.setdefault((operation, outcome), Timings())
            if part == "sum":
                timings.total_s = float(value)
            else:
                timings.buckets[int(part)] = int(value)
        return durations

    def _raw(self, meter: str) -> Mapping[bytes, bytes]:
        try:
            raw: Mapping[bytes, bytes] = self._connection.hgetall(PREFIX + meter)  # type: ignore[assignment]
        except RedisError as error:
            logger.debug("durations were not read: %s", error)
            return {}
        return raw
