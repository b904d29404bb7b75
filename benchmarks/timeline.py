"""Where the time from the last answer of a round to the next queue goes."""

import threading
import time
from types import TracebackType
from typing import Self

from backend.loop.facts import JobKind
from backend.store import Store

POLL_S = 0.1


class Timeline:
    """Looks into the store while one round follows another, and notes when each step is first seen."""

    def __init__(self, store: Store, key: int, number: int) -> None:
        """Watch what follows the answers of round ``number`` of project ``key``."""
        self._store, self._key, self._number = store, key, number
        self._seen: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look once more, and no longer."""
        self._done.set()
        self._thread.join()

    def look(self) -> None:
        """Note what is there now; what leaves a time of its own in the store is taken from that."""
        for job in self._store.of(self._key).jobs.all():
            if job.kind == JobKind.RETRAIN:  # off the books when it is finished
                self._seen.setdefault("noticed", job.queued_at)
        following = self._store.of(self._key).rounds.get(self._number + 1)
        if following is None:
            return
        self._seen.setdefault("plan", time.time())
        if self._store.of(self._key).rounds.counts(self._number + 1).unposted == 0:
            self._seen.setdefault("post", time.time())
        if following.live_at is not None:
            self._seen.setdefault("switch", following.live_at)

    def parts(self, answered: float, seen: float) -> dict[str, float]:
        """Return the seconds of each step between two times of day, that of the last answer and that of the next queue.

        They add up. taken up: until the worker has the labels and begins; seen: until Label Studio shows the queue.
        """
        row = self._store.of(self._key).rounds.get(self._number)
        if row is None or row.closed_at is None:
            raise ValueError(f"round {self._number} is not trained on yet")
        predicted = row.closed_at
        fitted = predicted - row.seconds["score"]
        steps = {
            "noticed": self._seen["noticed"],
            "taken up": fitted - row.seconds["retrain"],
            "fit": fitted,
            "predict": predicted,
            "plan": self._seen["plan"],
            "post": self._seen["post"],
            "switch": self._seen["switch"],
            "seen": seen,
        }
        ends = list(steps.values())
        return {name: end - begin for name, begin, end in zip(steps, [answered, *ends[:-1]], ends, strict=True)}

    def _watch(self) -> None:
        while not self._done.wait(POLL_S):
            self.look()
        self.look()
