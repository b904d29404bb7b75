"""What keeps the connection right: the webhook with its secret, the Data Manager tab, the model card's words."""

import logging
import time

from backend.config import SECRET_HEADER
from backend.errors import StudioError
from backend.loop.context import Context, Work, studio_of
from backend.loop.status import as_line, read_status
from backend.studio.client import MlBackend

logger = logging.getLogger(__name__)

TAB_TITLE = "PT4AL queue"
UPKEEP_S = 60.0  # how often the webhook and the tab are looked at

_next_upkeep: dict[int, tuple[str | None, float]] = {}


def upkeep(work: Work) -> None:
    """See to the webhook and the tab, now and then, and whenever our address or version has changed."""
    live = work.store.rounds.current(work.key)
    state = f"{work.project.backend_url} {live.model_version if live and live.live_at else None}"
    last, due = _next_upkeep.get(work.key, (None, 0.0))
    if last == state and time.monotonic() < due:
        return
    if work.project.backend_url:
        work.studio.ensure_webhook(
            work.project.studio_id,
            f"{work.project.backend_url.rstrip('/')}/webhook",
            {SECRET_HEADER: work.store.projects.webhook_secret(work.project) or ""},
        )
    if live is not None and live.live_at is not None:
        work.studio.ensure_tab(work.project.studio_id, TAB_TITLE)
    _next_upkeep[work.key] = (state, time.monotonic() + UPKEEP_S)


def write_card(context: Context, key: int) -> None:
    """Put the status in words onto the model card, when the words have changed."""
    project = context.store.projects.get(key)
    if project is None or not project.active:
        return
    text = as_line(read_status(context.store, project))
    if text == project.card:
        return
    try:
        studio = studio_of(context, project)
        backend = _ours(studio.ml_backends(project.studio_id), project.backend_url)
        if backend is not None:
            studio.describe_backend(backend, text)
        context.store.projects.set(key, card=text)
    except StudioError as error:
        logger.info("the model card of project %s could not be written: %s", key, error)


def _ours(backends: list[MlBackend], url: str | None) -> MlBackend | None:
    """Find our entry among a project's models: by the address that Label Studio uses, else the only one there is."""
    for backend in backends:
        if url and backend.url.rstrip("/") == url.rstrip("/"):
            return backend
    return backends[0] if len(backends) == 1 else None
