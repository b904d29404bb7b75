"""The services of an application: settings, store and queue."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from flask import current_app

from backend.config import Settings
from backend.errors import QueueUnavailable
from backend.queueing.queues import Queueing
from backend.store import ProjectRow, Store

logger = logging.getLogger(__name__)


@dataclass
class Services:
    """What the views of one application use. Redis is looked up on first use: the web starts and answers without it."""

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

    def wake(self, project: ProjectRow) -> None:
        """Have a worker advance ``project`` soon; without Redis, the workers' timer does it later."""
        try:
            self.queueing.wake(project.id)
        except QueueUnavailable as error:
            logger.warning("%s; the timer will advance project %s", error, project.studio_project_id)

    def retry_now(self, project: ProjectRow) -> None:
        """Try failed jobs and quarantined images of ``project`` again now."""
        stored = self.store.of(project.id)
        stored.jobs.retry_now()
        stored.tasks.retry_broken()
        self.wake(project)


def services() -> Services:
    """Return the services of the application that handles the current request."""
    current: Services = current_app.extensions["pt4al"]
    return current
