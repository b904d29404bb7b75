"""The description on the model's card in Label Studio: the project's status in one line."""

import logging
import re

from backend.errors import StudioError, StudioUnreachable
from backend.loop.context import Context, studio_of
from backend.loop.steps.maintain_connection import note_entry, own_entries
from backend.status.query_error_rate import ErrorRateDifference
from backend.status.status import Status, read_status
from backend.status.summary import as_line, dashboard_url, read_error_rates
from backend.store import ProjectRow, ProjectStore
from backend.studio.project import StudioProject

logger = logging.getLogger(__name__)

TASK = "model description"  # in the timetable
REFUSED = "refused model description"
UPDATE_S = 10.0  # how often the count of answers is brought up to date: Label Studio calls /setup each time
LATE_S = 50.0  # that it may be late on top while there is no end of answers
# Pauses after Label Studio has refused it once, twice, ...: what stands in its entry is for a person to mend, and each
# try has it call /health and /setup. Shorter ones after failures of the server, which may be over at any time.
REFUSED_S = (60.0, 300.0, 1800.0, 3600.0)
FAILED_S = (10.0, 20.0, 60.0, 300.0)
TWICE = "This backend is connected twice: delete this entry, the other one stays."
_ANSWERED = re.compile(r"[\d,]+ of [\d,]+ answered")


def write_model_description(context: Context, project_id: int, *, busy: bool = False) -> None:
    """Write the status onto the model's card, when its text has changed.

    busy: answers wait to be read; then the text waits until it is due, and some time longer.
    """
    timetable = context.timetable
    if busy and timetable.late_s(TASK, project_id) < LATE_S:
        return
    project = context.store.projects.get(project_id)
    if project is None or not project.active or not timetable.is_due(REFUSED, project_id, _entry(project)):
        return
    status = read_status(context.store, project)
    text = as_line(status, _error_rates(context, status), dashboard_url(status, context.settings.dashboard_url))
    only_answers = project.card is not None and _without_answers(text) == _without_answers(project.card)
    if text == project.card or (only_answers and not timetable.is_due(TASK, project_id)):
        return
    try:
        if _describe(context.store.of(project_id), studio_of(context, project), text):
            context.store.projects.set(project_id, card=text)
            timetable.done(TASK, project_id, UPDATE_S)
            timetable.tried[REFUSED, project_id] = 0
    except StudioError as error:
        pause = _pause(context, project, error)
        logger.info(
            "the description of project %s could not be written: %s; it is tried again in %g s",
            project.studio_project_id,
            error,
            pause,
        )


def _pause(context: Context, project: ProjectRow, error: StudioError) -> float:
    """Note a try in vain; return the seconds until the next one, unless the entry is changed before."""
    timetable, key = context.timetable, (REFUSED, project.id)
    pauses = FAILED_S if isinstance(error, StudioUnreachable) else REFUSED_S
    pause = pauses[min(timetable.tried[key], len(pauses) - 1)]
    timetable.tried[key] += 1
    timetable.done(REFUSED, project.id, pause, _entry(project))
    return pause


def _entry(project: ProjectRow) -> str:
    """Return what ``/setup`` says of our entry: what a person has changed there is tried at once."""
    return f"{project.connected_at} {project.backend_url} {project.extra_params}"


def _without_answers(text: str) -> str:
    return _ANSWERED.sub("", text)


def _error_rates(context: Context, status: Status) -> ErrorRateDifference | None:
    """Compare asked images with random ones, once a round: it reads every answer."""
    newest = status.current.number if status.current else -1
    return context.timetable.keep(
        "error rates", status.project.id, newest, lambda: read_error_rates(context.store, status)
    )


def _describe(store: ProjectStore, studio: StudioProject, text: str) -> bool:
    entries = own_entries(studio.ml_backends(), store.row())
    note_entry(store, entries)
    for number, entry in enumerate(entries):
        studio.describe_backend(entry, text if number == 0 else f"{TWICE} {text}")
    return bool(entries)
