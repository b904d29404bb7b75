"""What keeps the connection right: the webhook with its secret, the Data Manager tab, the model card's words."""

import logging
import re
import time

from backend.config import SECRET_HEADER
from backend.errors import StudioError
from backend.loop.context import Context, Work, studio_of
from backend.loop.steps.queue import check_posted
from backend.status.query_error_rate import ErrorRateDifference
from backend.status.status import Status, read_status
from backend.status.summary import as_line, dashboard_url, read_error_rates
from backend.store import ProjectRow, Store
from backend.studio.project import StudioProject
from backend.studio.types import MlBackend

logger = logging.getLogger(__name__)

TAB_TITLE = "PT4AL queue"
MAINTENANCE_S = 30.0  # how often webhook, tab and connection are looked at
TWICE = "This backend is connected twice: delete this entry, the other one stays."
CONNECTING_S = 30.0  # Label Studio calls /setup before it lists the model

CARD_S = 10.0  # how often the count of answers on a card is brought up to date: Label Studio calls /setup each time
CARD_LATE_S = 50.0  # that it may be late on top while there is no end of answers
_ANSWERED = re.compile(r"[\d,]+ of [\d,]+ answered")

_next_maintenance: dict[int, tuple[str | None, float]] = {}
_next_card: dict[int, float] = {}
_hard: dict[int, tuple[int, ErrorRateDifference | None]] = {}  # of the newest round


def maintain_connection(work: Work) -> bool:
    """See to connection, webhook, tab and images that may be there again.

    That is now and then, and whenever our address has changed or a first queue is live. Not at each new round:
    annotators begin on it at once, and Label Studio has to tell us what they answer.

    Gives False if the project has no model any more: it was disconnected, and nothing more is to be written.
    """
    live = work.project_store.rounds.current()
    version = live.model_version if live and live.live_at else None
    state = f"{work.project.connected_at} {work.project.backend_url} {version is not None}"
    last, due = _next_maintenance.get(work.key, (None, 0.0))
    if last == state and time.monotonic() < due:
        return True
    backends = work.studio.ml_backends()
    ours = ours_among(backends, work.project)
    if not ours and time.time() - work.project.connected_at > CONNECTING_S:
        return False
    _note_entry(work.store, work.project, ours)
    work.project_store.tasks.retry_due(time.time())
    url = ours[0].url if ours else work.project.backend_url
    if url:
        work.studio.ensure_webhook(
            f"{url.rstrip('/')}/webhook",
            {SECRET_HEADER: work.store.projects.webhook_secret(work.project) or ""},
        )
    if version is not None:
        check_posted(work)
        work.studio.ensure_tab(TAB_TITLE)
    _next_maintenance[work.key] = (state, time.monotonic() + MAINTENANCE_S)
    return True


def write_card(context: Context, key: int, *, in_haste: bool = False) -> None:
    """Put the status in words onto the model card, when the words have changed.

    In haste, while answers wait to be read, the card waits for its turn, but not for ever.
    """
    if in_haste and time.monotonic() < _next_card.get(key, 0.0) + CARD_LATE_S:
        return
    project = context.store.projects.get(key)
    if project is None or not project.active:
        return
    status = read_status(context.store, project)
    where = dashboard_url(status, context.settings.dashboard_url)
    text = as_line(status, _error_rates(context, status), where)
    if text == project.card or (_same_but_answers(text, project.card) and time.monotonic() < _next_card.get(key, 0.0)):
        return
    try:
        if _describe(context.store, studio_of(context, project), project, text):
            context.store.projects.set(key, card=text)
            _next_card[key] = time.monotonic() + CARD_S
    except StudioError as error:
        logger.info("the model card of project %s could not be written: %s", project.studio_project_id, error)


def _same_but_answers(text: str, card: str | None) -> bool:
    return card is not None and _ANSWERED.sub("", text) == _ANSWERED.sub("", card)


def _error_rates(context: Context, status: Status) -> ErrorRateDifference | None:
    """Compare asked images with random ones, once a round: it reads every answer."""
    newest = status.current.number if status.current else -1
    last, found = _hard.get(status.project.id, (-1, None))
    if last != newest:
        found = read_error_rates(context.store, status)
        _hard[status.project.id] = (newest, found)
    return found


def _note_entry(store: Store, project: ProjectRow, ours: list[MlBackend]) -> None:
    if ours and project.card_id != ours[0].id:
        store.projects.set(project.id, card_id=ours[0].id)


def _describe(store: Store, studio: StudioProject, project: ProjectRow, text: str) -> bool:
    ours = ours_among(studio.ml_backends(), project)
    _note_entry(store, project, ours)
    for number, card in enumerate(ours):
        studio.describe_backend(card, text if number == 0 else f"{TWICE} {text}")
    return bool(ours)


def ours_among(backends: list[MlBackend], project: ProjectRow) -> list[MlBackend]:
    """Find our entry among a project's models: the one we know, those of the address that Label Studio calls us by.

    Behind a proxy, the address that we are called by may not be the one that was typed in: then the only model there
    is counts as ours, until we have written a card. After that an entry that is neither is somebody else's: it gets no
    card, and no secret of ours. Label Studio on SQLite repeats a request during which its database was locked, and so
    may connect a model twice; the oldest entry comes first.
    """
    url = _bare(project.backend_url or "")
    ours = [backend for backend in backends if backend.id == project.card_id or (url and _bare(backend.url) == url)]
    alone = [backend for backend in backends if project.card in (None, backend.description)]
    return sorted(ours, key=lambda backend: backend.id) or (alone if len(backends) == 1 else [])


def _bare(url: str) -> str:
    """Give an address without its scheme, which a proxy that ends TLS changes."""
    return url.partition("://")[2].rstrip("/")
