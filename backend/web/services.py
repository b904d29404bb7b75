"""What the views work with."""

from collections.abc import Callable
from dataclasses import dataclass

from flask import current_app

from backend.config import Settings
from backend.queueing.queues import Queueing
from backend.store import Store


@dataclass
class Services:
    """One per process. Redis is looked up on first use: the web answers before, and without, it."""

    settings: Settings
    store: Store
    open_queueing: Callable[[], Queueing]
    _queueing: Queueing | None = None

    @property
    def queueing(self) -> Queueing:
        """The queue.

        Raises:
            QueueUnavailable: there is no Redis yet.
        """
        if self._queueing is None:
            self._queueing = self.open_queueing()
        return self._queueing


def services() -> Services:
    """Give the services of the application that answers."""
    found: Services = current_app.extensions["pt4al"]
    return found
