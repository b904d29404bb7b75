"""Keeping the connection to Label Studio right: our entry among the models, the webhook, the Data Manager tab."""

import logging
import time

from backend.config import SECRET_HEADER
from backend.errors import Disconnected
from backend.loop.steps.queue import check_posted
from backend.store import ProjectRow, ProjectStore
from backend.studio.project import StudioProject
from backend.studio.types import MlBackend

logger = logging.getLogger(__name__)

TAB_TITLE = "PT4AL queue"
VERSION = "pt4al-r"  # how the versions begin that we answer to /setup
MAINTENANCE_S = 30.0  # how often webhook, tab and connection are looked at
CONNECTING_S = 30.0  # Label Studio calls /setup before it lists the model


def connection_state(store: ProjectStore) -> str:
    """Return what calls for maintenance at once when it changes: our address, and whether a queue is served.

    Not at each new round: annotators begin on it at once, and Label Studio has to tell us what they answer.
    """
    row, current = store.row(), store.rounds.current()
    return f"{row.connected_at} {row.backend_url} {current is not None and current.live_at is not None}"


def maintain_connection(store: ProjectStore, studio: StudioProject, *, is_read: bool = True) -> None:
    """See to connection, webhook, tab and images that may be available again.

    is_read: all changes are in the store; else an answer that was taken back looks like one of after a backup.

    Raises:
        Disconnected: the project has no model of ours any more: nothing more is to be written.
    """
    row = store.row()
    entries = own_entries(studio.ml_backends(), row)
    if not entries and time.time() - row.connected_at > CONNECTING_S:
        raise Disconnected("This backend was disconnected in Label Studio; connect it again to go on.")
    note_entry(store, entries)
    if is_read:
        _check_answers(store, studio)
    store.tasks.retry_due(time.time())
    url = entries[0].url if entries else row.backend_url
    if url:
        studio.ensure_webhook(f"{url.rstrip('/')}/webhook", {SECRET_HEADER: store.webhook_secret() or ""})
    current = store.rounds.current()
    if current is not None and current.live_at is not None:
        check_posted(store, studio)
        studio.ensure_tab(TAB_TITLE)


def _check_answers(store: ProjectStore, studio: StudioProject) -> None:
    """Have all tasks read again where the newest answer is not there any more: Label Studio was put back in time.

    A restored backup changes no ``updated_at``, by which changes are read. Answers that people take back do.
    """
    newest = store.tasks.newest_answered()
    if newest is None:
        return
    found = studio.tasks.by_id([newest])
    if found and not found[0].annotations:
        logger.warning("task %d has no answer any more: Label Studio was restored, and all is read again", newest)
        store.set(cursor=None)


def note_entry(store: ProjectStore, entries: list[MlBackend]) -> None:
    """Note the id of our entry among the project's models, the first of ``entries``."""
    if entries and store.row().card_id != entries[0].id:
        store.set(card_id=entries[0].id)


def own_entries(backends: list[MlBackend], project: ProjectRow) -> list[MlBackend]:
    """Return our entries among a project's models: the one we know, and those with the address that we are called by.

    Behind a proxy, the address that we are called by may not be the one that was typed in: then the only model of the
    project that answers as we do, or the only one, counts as ours, until we have written its description. After that
    an entry that is neither is somebody else's: it gets no description, and no secret of ours. Label Studio on SQLite
    repeats a request during which its database was locked, and so may connect a model twice; the oldest entry comes
    first.
    """
    url = _without_scheme(project.backend_url or "")
    own = [entry for entry in backends if entry.id == project.card_id or (url and _without_scheme(entry.url) == url)]
    if own:
        return sorted(own, key=lambda entry: entry.id)
    alike = [entry for entry in backends if entry.version.startswith(VERSION)] or backends
    return [entry for entry in alike if project.card in (None, entry.description)] if len(alike) == 1 else []


def _without_scheme(url: str) -> str:
    """Return an address without its scheme, which a proxy that ends TLS changes."""
    return url.partition("://")[2].rstrip("/")
