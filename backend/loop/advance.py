"""One pass over a project: read what changed, then take the steps that the table calls for."""

import errno
import logging
import time

from backend.errors import (
    BackendError,
    ConfigError,
    Disconnected,
    ProjectError,
    ProjectGone,
    StudioRefused,
    StudioUnreachable,
    Superseded,
    Undecided,
)
from backend.logs import log_context
from backend.loop.context import Context, open_project, studio_of, withheld_key
from backend.loop.decide import JOB_OF_STEP, OBSERVED_AGAIN, REPEATED, Step, next_step, unwanted_jobs
from backend.loop.facts import Facts, JobKind, Observation, gather
from backend.loop.siblings import is_settled, may_wake, place_on_waking
from backend.loop.step_table import JOBS, MAINTENANCE, STEPS
from backend.loop.steps.maintain_connection import connection_state, own_entries
from backend.loop.steps.pull import fetch_settings, read_changes
from backend.project_files import no_room
from backend.store import ProjectRow
from model.errors import ModelError

logger = logging.getLogger(__name__)

ADVANCE_S = 3.0  # one pass takes up no further step after so long: other projects and new answers wait


def advance_project(context: Context, project: ProjectRow) -> Exception | None:
    """Run the due steps of a project; return the first error, if any."""
    store = context.store.of(project.id)
    try:
        return _run_steps(context, project.id) if is_settled(context, store.row()) else None
    except Undecided as error:
        return error
    except (ProjectGone, Disconnected) as error:
        store.set(active=False)
        return error
    except (ProjectError, ConfigError) as error:
        return _watch_label_config(context, project, error)
    except StudioRefused as error:
        return StudioRefused(f"{error}{withheld_key(context, project)}")
    except Superseded:
        return None
    except Exception as error:  # noqa: BLE001 - told to the person; no project may stop the worker
        log_error(error)
        return error


def reactivate(context: Context, project: ProjectRow) -> bool:
    """Activate a project again if Label Studio has it after all, with us among its models; tell whether it does.

    It may have been deactivated by mistake: while a backup was restored, or something else answered for Label Studio.
    """
    if not may_wake(context, project):
        return False
    try:
        studio = studio_of(context, project)
        fetch_settings(studio, project)
        connected = bool(own_entries(studio.ml_backends(), project))
    except BackendError:
        return False
    if connected:
        logger.info("project %s is there again", project.studio_project_id)
        context.store.projects.set(project.id, active=True, place=place_on_waking(context, project))
    return connected


def _run_steps(context: Context, project_id: int) -> Exception | None:
    """Take steps until nothing is missing now; a step that fails or has no effect does not hold up the others."""
    project = open_project(context, project_id)
    store = project.store
    observed = read_changes(store, project.studio)
    store.jobs.drop_lost(context.queueing.is_queued)
    project = open_project(context, project_id)  # the labels may be others now
    if project.row.notice != project.labeling.notice:
        store.set(notice=project.labeling.notice)
    deadline = time.monotonic() + ADVANCE_S
    last, passing, failed = None, set[Step](), None
    while time.monotonic() < deadline:
        project = open_project(context, project_id)
        facts = gather_facts(context, project_id, observed)
        if facts != last:
            last, passing = facts, set()
        step = next_step(facts, passing)
        if step == Step.WAIT:
            store.jobs.forget_failed(unwanted_jobs(facts))
            return failed
        if step not in REPEATED:
            passing.add(step)
        with log_context(step=str(step), round=round_number(context, project_id)):
            try:
                _take(context, project_id, step, facts)
            except (StudioUnreachable, StudioRefused, Superseded, ProjectError, ConfigError, ProjectGone):
                raise
            except Exception as error:  # noqa: BLE001 - the steps after it have to have their turn
                log_error(error)
                passing.add(step)
                failed = failed or error
            else:
                observed = read_changes(store, project.studio) if step in OBSERVED_AGAIN else observed
    context.queueing.wake(project_id)  # look at what has happened meanwhile, then go on
    return failed


def gather_facts(context: Context, project_id: int, observed: Observation | None) -> Facts:
    """Read the facts of a project; observed: None where Label Studio was not asked."""
    project = open_project(context, project_id)
    due = observed is not None and context.timetable.is_due(MAINTENANCE, project_id, connection_state(project.store))
    return gather(project.store, project.files, project.config, observed, maintenance_due=due)


def _take(context: Context, project_id: int, step: Step, facts: Facts) -> None:
    logger.debug("begins")
    if step in JOB_OF_STEP:
        start_job(context, project_id, JOB_OF_STEP[step])
    else:
        take_step(context, project_id, step, facts)


def take_step(context: Context, project_id: int, step: Step, facts: Facts) -> None:
    """Take a short step on the facts that called for it."""
    STEPS[step](context, open_project(context, project_id), facts)


def start_job(context: Context, project_id: int, kind: JobKind) -> None:
    """Queue a long job, unless one of its kind lives or waits for its next try."""
    token = context.store.of(project_id).jobs.start(kind)
    if token is not None:
        context.queueing.enqueue(JOBS[kind].queue, kind, project_id, token)


def round_number(context: Context, project_id: int) -> int | None:
    """Return the number of the project's newest round."""
    current = context.store.of(project_id).rounds.current()
    return current.number if current else None


def error_message(error: Exception) -> str:
    """Return the message that people see."""
    return (
        known_message(error) or f"An error of this backend ({type(error).__name__}: {error}); its log has the details."
    )


def known_message(error: Exception) -> str | None:
    """Return the message of an error that a person can act on or wait for; None for a defect of this backend."""
    if isinstance(error, BackendError | ModelError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(error.filename or "DATA_DIR")
    return None


def log_error(error: Exception) -> None:
    """Log an error: one line where a person can act on it, else with its traceback."""
    if text := known_message(error):
        logger.warning("%s", text)
    else:
        logger.error("failed", exc_info=error)


def _watch_label_config(context: Context, project: ProjectRow, error: Exception) -> Exception:
    """Look at a project that cannot be worked on: its labeling interface may have been changed meanwhile."""
    store = context.store.of(project.id)
    try:
        info = fetch_settings(studio_of(context, project), project)
    except ProjectGone as gone:
        store.set(active=False)
        return gone
    except BackendError as unreachable:
        return unreachable
    if info.label_config != store.row().label_config:
        store.set(label_config=info.label_config, cursor=None)
        context.queueing.wake(project.id)
    return error
