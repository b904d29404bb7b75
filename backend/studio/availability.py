"""Whether a server has answered lately: one that does not must not hold up the work for all others."""

import threading
import time
from functools import lru_cache

SERVERS = 1024  # that are remembered; task data may name any number
PAUSE_S = 5.0  # after a failure nobody is asked to wait for that server again for so long
PAUSE_MAX_S = 60.0
PAUSE_RATIO = (
    3.0  # and for so many times as long as the failure took: at most a quarter of a worker's time is spent on it
)


class Availability:
    """One server's failures in a row, for all threads of this process."""

    def __init__(self, tolerance: int = 1, pause_max_s: float = PAUSE_MAX_S) -> None:
        """Pause after ``tolerance`` failures in a row, at most for ``pause_max_s``."""
        self._tolerance, self._pause_max_s = tolerance, pause_max_s
        self._lock = threading.Lock()
        self._failures = 0
        self._reason = ""
        self._resume_at = 0.0

    @property
    def troubled(self) -> bool:
        """Whether it failed when it was last asked."""
        return self._failures >= self._tolerance

    def paused(self) -> str | None:
        """Return the reason of the last failure while the server is not to be asked, else None."""
        with self._lock:
            return self._reason if self.troubled and time.monotonic() < self._resume_at else None

    def failed(self, reason: str, took_s: float, pause_s: float = 0.0) -> None:
        """Note a failure that took so long, and how long the server has asked us to stay away."""
        with self._lock:
            self._failures += 1
            self._reason = reason
            pause = max(PAUSE_S, PAUSE_RATIO * took_s, pause_s)
            self._resume_at = time.monotonic() + min(pause, self._pause_max_s)

    def answered(self) -> None:
        """Note an answer: all is well again."""
        if self._failures:
            with self._lock:
                self._failures = 0


@lru_cache(maxsize=SERVERS)
def availability(server: str, tolerance: int = 1, pause_max_s: float = PAUSE_MAX_S) -> Availability:
    """Return what this process knows of the server at an address."""
    return Availability(tolerance, pause_max_s)
