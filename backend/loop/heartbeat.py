"""A running job's sign of life, which is also where it learns that it has to stop."""

import logging
import threading
import time
from types import TracebackType
from typing import Protocol, Self

from backend.errors import BackendError, Superseded
from backend.queueing.worker import Worker
from backend.store import Store
from backend.store.jobs import HEARTBEAT_S

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Takes the share of the work that is done, 0 to 1; may raise to stop the job."""

    def __call__(self, share: float, /) -> None:
        """Note ``share``."""


class Stopped(BackendError):  # noqa: N818 - not an error of the job
    """The worker was told to end; the job goes on from its checkpoint in the next one."""


class Heartbeat:
    """Beats from a thread of its own, so that a long computation between two reports does not look dead."""

    def __init__(self, store: Store, key: int, kind: str, token: str) -> None:
        """Beat for the job ``kind`` of project ``key`` under ``token``."""
        self._store, self._key, self._kind, self._token = store, key, kind, token
        self._share = 0.0
        self._ours = True
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self.started = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to beat."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop beating."""
        self._done.set()
        self._thread.join()

    def progress(self, share: float) -> None:
        """Note the share that is done.

        Raises:
            Superseded: another attempt has taken over.
            Stopped: the worker was told to end.
        """
        self._share = share
        if not self._ours:
            raise Superseded(f"another worker has taken over '{self._kind}' of project {self._key}")
        if Worker.stopping.is_set():
            raise Stopped(f"'{self._kind}' of project {self._key} was interrupted")

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_S):
            try:
                self._ours = self._store.of(self._key).jobs.beat(self._kind, self._token, self._share)
            except Exception:
                logger.warning("could not note that '%s' of project %s lives", self._kind, self._key, exc_info=True)
