"""What the workers run. Arguments are JSON; everything else is opened here."""

import logging
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from backend.errors import ConfigError, QueueUnavailable, StudioUnreachable, Superseded
from backend.logs import log_context
from backend.loop.advance import (
    advance_project,
    error_message,
    gather_facts,
    known_message,
    reactivate,
    round_number,
    take_step,
)
from backend.loop.context import Context, context, open_project
from backend.loop.decide import FOLLOW_UP, is_missing
from backend.loop.facts import JobKind
from backend.loop.heartbeat import Heartbeat, Stopped
from backend.loop.model_description import write_model_description
from backend.loop.step_table import JOBS
from backend.loop.steps import score
from backend.loop.steps.shards import do_shard
from backend.project_files import drop_leftovers
from backend.queueing.meters import JOB_METER
from backend.queueing.presence import WORKER, Presence, Process
from backend.queueing.worker import identity
from backend.store.jobs import LAST_RETRY_S, OUTAGE_RETRY_S

logger = logging.getLogger(__name__)

TICK_S = 15.0  # how often the timer advances every active project
INACTIVE_S = 300.0  # how often it looks at the others


def advance(project_id: int, timer: bool = False) -> None:
    """Bring a project one or more steps further; always short. timer: it was the timer that asked for it."""
    opened = context()
    opened.queueing.wake_received(project_id, timer)
    with opened.queueing.lock(project_id) as held:
        project = opened.store.projects.get(project_id)
        if not held or project is None or not (project.active or reactivate(opened, project)):
            return
        with log_context(project=project.studio_project_id, step="advance"):
            error = advance_project(opened, project)
        text = None if error is None else error_message(error)
        if text != project.error:
            opened.store.projects.set(project_id, error=text)
        if not isinstance(error, StudioUnreachable):
            write_model_description(opened, project_id, busy=opened.queueing.is_woken(project_id))


def run(kind: str, project_id: int, token: str) -> None:
    """Run a long job, if this attempt is still the one that may; then ask for the next step."""
    opened = context()
    jobs = opened.store.of(project_id).jobs
    if not jobs.take(kind, token, identity()):
        return
    project = opened.store.projects.get(project_id)
    if project is None:
        return
    started = time.monotonic()
    log = log_context(project=project.studio_project_id, step=kind, round=round_number(opened, project_id))
    with log, Heartbeat(opened.store, project_id, kind, token) as heartbeat:
        try:
            JOBS[JobKind(kind)].call(opened, open_project(opened, project_id), heartbeat.progress)
            _follow_up(opened, project_id, JobKind(kind))
            jobs.finish(kind, token)
            opened.queueing.meters.note(JOB_METER, kind, time.monotonic() - started)
            logger.info("done in %.1f s", time.monotonic() - started)
        except (Superseded, Stopped) as error:
            logger.info("%s", error)
            jobs.finish(kind, token)
        except Exception as error:
            message = known_message(error) or f"{type(error).__name__}: {error}"
            opened.queueing.meters.note(JOB_METER, kind, time.monotonic() - started, ok=False)
            logger.warning("failed", exc_info=True)
            longest_s = OUTAGE_RETRY_S if isinstance(error, StudioUnreachable) else LAST_RETRY_S
            jobs.fail(kind, token, message, longest_s)
    opened.queueing.wake(project_id)


def _follow_up(opened: Context, project_id: int, kind: JobKind) -> None:
    """Take the step that follows a job right away, if the table calls for it."""
    step = FOLLOW_UP.get(kind)
    if step is not None:
        facts = gather_facts(opened, project_id, None)
        if is_missing(step, facts):
            take_step(opened, project_id, step, facts)


def shard(project_id: int, key: str) -> None:
    """Do a part of a job that another worker has, if it is still wanted."""
    opened = context()
    project = opened.store.projects.get(project_id)
    if project is None:
        return
    opened_project = open_project(opened, project_id)
    with log_context(project=project.studio_project_id, step="shard"):
        do_shard(opened_project.studio, opened_project.files, opened_project.encoders, key)


def score_tasks(project_id: int, task_ids: list[int], until: float) -> dict[str, tuple[Any, float]]:
    """Score tasks that the newest model has not seen: prediction and confidence by task id, unusable images left out.

    until: when nobody waits for them any more, as the store's clock counts.
    """
    opened = context()
    if opened.store.projects.get(project_id) is None:
        return {}
    project = open_project(opened, project_id)
    rows = score.score_tasks(
        project.store,
        project.studio,
        project.files,
        project.labeling,
        project.encoders,
        task_ids,
        until - opened.store.clock.ahead_s,
    )
    return {str(task_id): row for task_id, row in rows.items()}


def tick() -> None:
    """Ask for every active project to be advanced: no lost event stops one. The others are looked at now and then.

    While that cannot be asked for, nobody else can tell people why nothing happens; the text goes with the next
    ``advance``.
    """
    opened = context()
    try:
        opened.store.installation.claim()
    except ConfigError as error:  # others have taken this one for gone, and work in another folder
        logger.error("%s", error)
        os.kill(os.getpid(), signal.SIGTERM)
        return
    all_projects = time.time() % INACTIVE_S < TICK_S
    try:
        for project in opened.store.projects.all(active=None if all_projects else True):
            opened.queueing.wake(project.id, timer=True)
    except QueueUnavailable as error:
        logger.warning("%s", error)
        text = f"Work waits, and goes on by itself once it can be given to the workers again. {error}"
        for project in opened.store.projects.all(active=True):
            if project.error is None:
                opened.store.projects.set(project.id, error=text)


def on_worker_start(queues: Sequence[str]) -> Presence:
    """Enter the installation as a worker of ``queues``, and free what dead workers were doing.

    Raises:
        ConfigError: this process sees another data folder, or another database, than others of the installation.
    """
    opened = context()
    drop_leftovers(opened.settings.data_dir, time.time())
    place = opened.store.installation.claim()
    data_dir = opened.settings.data_dir
    here = Process.here(WORKER, queues, database=place.database, folder=place.folder, data_dir=data_dir)
    presence = Presence(opened.queueing, here)
    freed = sum(opened.store.release_worker(name) for name in presence.enter())
    if freed:
        logger.warning("%d job(s) of a worker that died will be taken up again", freed)
    return presence
