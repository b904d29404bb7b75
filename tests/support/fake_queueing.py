"""The queue and its only worker, in this process: what is asked for is collected, and run in order."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from backend.errors import QueueUnavailable
from backend.loop import jobs
from backend.queueing.queues import ADVANCE, IO, QUEUES


class NoProcesses:
    """A Redis in which no process says that it lives."""

    def hgetall(self, name: str) -> dict[bytes, bytes]:
        return {}

    def time(self) -> tuple[int, int]:
        return 0, 0


class FakeQueueing:
    """Does what ``Queueing`` does, without Redis.

    ``broken`` holds the text of an outage while there is one. ``ran`` lists what was run: "advance" or a kind of job.
    """

    def __init__(self) -> None:
        self.broken: str | None = None
        self.ran: list[str] = []
        self.meters = self
        self.connection = NoProcesses()
        self._waiting: dict[str, deque[tuple[Any, ...]]] = {name: deque() for name in QUEUES}
        self._hints: set[int] = set()

    def run(self, most: int = 200) -> list[str]:
        """Run what waits until nothing does, ``advance`` first; return what was run.

        Raises:
            RuntimeError: there is no end to it.
        """
        begun = len(self.ran)
        while waiting := next((queue for queue in self._waiting.values() if queue), None):
            if len(self.ran) - begun >= most:
                raise RuntimeError(f"no end after {most} jobs: {self.ran[-10:]}")
            self._run_one(waiting.popleft())
        return self.ran[begun:]

    def run_next(self) -> str | None:
        """Run the one job that is next; return what it was, None if nothing waits."""
        waiting = next((queue for queue in self._waiting.values() if queue), None)
        if waiting is None:
            return None
        self._run_one(waiting.popleft())
        return self.ran[-1]

    def _run_one(self, work: tuple[Any, ...]) -> None:
        self.ran.append(str(work[0]))
        if work[0] == ADVANCE:
            jobs.advance(work[1])
        else:
            jobs.run(*work)

    # What ``Queueing`` has

    def wake(self, project_id: int, *, timer: bool = False) -> bool:
        self._check()
        if project_id in self._hints:
            return False
        self._hints.add(project_id)
        self._waiting[ADVANCE].append((ADVANCE, project_id))
        return True

    def wake_received(self, project_id: int, timer: bool = False) -> None:
        self._hints.discard(project_id)

    def is_woken(self, project_id: int) -> bool:
        return project_id in self._hints

    def enqueue(self, queue: str, kind: str, project_id: int, token: str) -> None:
        self._check()
        self._waiting[queue].append((str(kind), project_id, token))

    def is_queued(self, token: str) -> bool:
        return any(token in work for queue in self._waiting.values() for work in queue)

    def ask(self, queue: str, function: str, *args: Any, timeout_s: float) -> Any:
        self._check()
        name = function.rpartition(".")[2]
        run: Callable[..., Any] = getattr(jobs, name)
        return run(*args)

    @contextmanager
    def lock(self, project_id: int) -> Iterator[bool]:
        yield True

    def depth(self, queue: str = IO) -> int:
        return len(self._waiting[queue])

    def note(self, meter: str, what: str, seconds: float, ok: bool = True) -> None:
        """Note nothing: stands for the meters."""

    def _check(self) -> None:
        if self.broken:
            raise QueueUnavailable(self.broken)
