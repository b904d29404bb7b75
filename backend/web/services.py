"""The services of an application: settings, store and queue."""

import atexit
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, current_app

from backend.config import Settings
from backend.errors import BackendError, QueueUnavailable
from backend.queueing.presence import BEAT_S, WEB, Presence, Process
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


def enter(app: Flask) -> None:
    """Have this process say from now on that it lives, as soon as there is a Redis."""
    threading.Thread(target=_enter, args=(app.extensions["pt4al"],), daemon=True).start()


def _enter(current: Services) -> None:
    said = ""
    while True:
        try:
            place = current.store.installation.claim()
            data_dir = current.settings.data_dir
            here = Process.here(WEB, (), database=place.database, folder=place.folder, data_dir=data_dir)
            presence = Presence(current.queueing, here)
            presence.enter()
        except BackendError as error:
            if str(error) != said:
                logger.warning("%s", error)
            said = str(error)
            time.sleep(BEAT_S)
        else:
            atexit.register(presence.leave)
            return
