"""What the workers run. Arguments are JSON; everything else is opened here."""

import errno
import logging
import time

from backend.autolabel import step
from backend.errors import (
    BackendError,
    ConfigError,
    ProjectError,
    ProjectGone,
    QueueUnavailable,
    StudioRefused,
    StudioUnreachable,
    Superseded,
)
from backend.logs import log_context
from backend.loop.context import Context, Work, context, studio_of, withheld_key
from backend.loop.decide import JOB_OF_STEP, Step, next_step, unwanted
from backend.loop.facts import JobKind, Observation, gather
from backend.loop.heartbeat import Heartbeat, Stopped
from backend.loop.steps import export, pretext, queue, record, retrain, score, sync
from backend.loop.steps.maintain_connection import maintain_connection, ours_among, write_card
from backend.loop.steps.plan import extend, plan
from backend.loop.steps.pull import fetch_settings, read_changes
from backend.project_files import drop_leftovers, no_room
from backend.queueing import queues
from backend.queueing.meters import JOB_METER
from backend.queueing.worker import identity
from backend.store import ProjectRow, Store
from backend.store.jobs import LAST_RETRY_S, OUTAGE_RETRY_S, is_alive
from model.errors import ModelError

logger = logging.getLogger(__name__)

ADVANCE_S = 3.0  # one ``advance`` takes up no further step after so long: other projects and new answers wait
TICK_S = 15.0  # how often the timer advances every live project
REST_S = 300.0  # how often it looks at one that is at rest

SHORT_STEPS = {
    Step.POST: queue.post,
    Step.SWITCH: queue.switch,
    Step.CLEAN: queue.clean,
    Step.DROP: queue.drop,
    Step.TOP_UP: queue.top_up,
    Step.EXTEND: extend,
    Step.RESTART: pretext.restart,
    Step.PLAN: plan,
}
LONG_STEPS = {
    JobKind.SYNC: (sync.sync, queues.IO),
    JobKind.RECORD: (record.record, queues.IO),
    JobKind.FINAL: (step.final, queues.IO),
    JobKind.SPLIT: (pretext.split_large, queues.IO),
    JobKind.PRETEXT: (pretext.pretext, queues.TRAIN),
    JobKind.RETRAIN: (retrain.retrain, queues.TRAIN),
    JobKind.EXPORT: (export.export, queues.TRAIN),
}


def advance(key: int) -> None:
    """Bring a project one or more steps further; always short."""
    here = context()
    here.queueing.wake_received(key)
    with here.queueing.lock(key) as held:
        project = here.store.projects.get(key)
        if not held or project is None or not (project.active or _is_back(here, project)):
            return
        with log_context(project=project.studio_project_id, step="advance"):
            error = _advance(here, project)
        text = None if error is None else _words(error)
        if text != project.error:
            here.store.projects.set(key, error=text)
        if not isinstance(error, StudioUnreachable):
            write_card(here, key, in_haste=here.queueing.is_woken(key))


def _is_back(here: Context, project: ProjectRow) -> bool:
    """Look whether a project at rest is there after all, with us among its models, and wake it if so.

    It may have been put to rest by mistake: while a backup was restored, or something else answered for Label Studio.
    """
    try:
        studio = studio_of(here, project)
        fetch_settings(studio, project)
        back = bool(ours_among(studio.ml_backends(), project))
    except BackendError:
        return False
    if back:
        logger.info("project %s is there again", project.studio_project_id)
        here.store.projects.set(project.id, active=True)
    return back


def _advance(here: Context, project: ProjectRow) -> Exception | None:
    """Do what can be done; give what is wrong."""
    try:
        work = Work(here, project)
        seen = read_changes(work)
        if not maintain_connection(work):
            here.store.projects.set(project.id, active=False)
            return ProjectError("This backend was disconnected in Label Studio; connect it again to go on.")
        return _walk(work, seen)
    except ProjectGone as error:
        here.store.projects.set(project.id, active=False)
        return error
    except (ProjectError, ConfigError) as error:
        return _watch_for_mending(here, project, error)
    except StudioRefused as error:
        return StudioRefused(f"{error}{withheld_key(here, project)}")
    except Superseded:
        return None
    except Exception as error:  # noqa: BLE001 - said to the person, and no project may stop the worker
        _log(error)
        return error


def _walk(work: Work, seen: Observation) -> Exception | None:
    """Take steps until nothing is missing now; a step that fails or has no effect does not hold up the others."""
    work.project_store.jobs.drop_lost(work.context.queueing.is_queued)
    if work.project.notice != work.labeling.notice:
        work.store.projects.set(work.key, notice=work.labeling.notice)
    deadline = time.monotonic() + ADVANCE_S
    last, passing, failed = None, set[Step](), None
    while time.monotonic() < deadline:
        work.reload()
        facts = gather(work.store, work.project, work.config, seen)
        if facts != last:
            last, passing = facts, set()
        step = next_step(facts, passing)
        if step == Step.WAIT:
            work.project_store.jobs.forget_failed(unwanted(facts))
            if facts.training_requested and facts.live and facts.asks.answered == 0:
                work.store.projects.set(work.key, training_requested=False)  # there is nothing new to train on
            return failed
        if step != Step.CLEAN:
            passing.add(step)
        with log_context(step=str(step), round=_round(work.store, work.key)):
            try:
                seen = _take(work, step, seen)
            except (StudioUnreachable, StudioRefused, Superseded, ProjectError, ConfigError):
                raise
            except Exception as error:  # noqa: BLE001 - the steps after it have to have their turn
                _log(error)
                passing.add(step)
                failed = failed or error
    work.context.queueing.wake(work.key)  # look at what has happened meanwhile, then go on
    return failed


def _take(work: Work, step: Step, seen: Observation) -> Observation:
    """Take one step; give what Label Studio looks like after it."""
    logger.debug("begins")
    if step in JOB_OF_STEP:
        _start(work, JOB_OF_STEP[step])
    elif step == Step.SPLIT:
        _split(work)
    else:
        SHORT_STEPS[step](work)
    return read_changes(work) if step == Step.SWITCH else seen


def _split(work: Work) -> None:
    """Split a small pool here; have a job split a large one, whose writes would hold up everybody else's steps."""
    jobs, now = work.project_store.jobs, time.time()
    counts = work.project_store.tasks.counts(now)
    # Until a split is whole, one image more or less shifts the ranks, and with them the batches, of nearly all.
    if (counts.ok if work.project.split_key is None else counts.unsplit) > pretext.SPLIT_AT_ONCE:
        _start(work, JobKind.SPLIT)
    elif not any(job.kind == JobKind.SPLIT and is_alive(job, now) for job in jobs.all()):
        pretext.split_pool(work)  # what an ended job has left of it, too
        jobs.forget_failed({JobKind.SPLIT})


def _words(error: Exception) -> str:
    return _known(error) or f"An error of this backend ({type(error).__name__}: {error}); its log has the details."


def _known(error: Exception) -> str | None:
    """Say what is wrong, if it is something that a person can fix or wait for."""
    if isinstance(error, BackendError | ModelError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(error.filename or "DATA_DIR")
    return None


def _log(error: Exception) -> None:
    if text := _known(error):
        logger.warning("%s", text)
    else:
        logger.error("failed", exc_info=error)


def _round(store: Store, key: int) -> int | None:
    current = store.of(key).rounds.current()
    return current.number if current else None


def _start(work: Work, kind: JobKind) -> None:
    token = work.project_store.jobs.start(kind)
    if token is not None:
        work.context.queueing.enqueue(LONG_STEPS[kind][1], kind, work.key, token)


def run(kind: str, key: int, token: str) -> None:
    """Run a long job, if this attempt is still the one that may; then ask for the next step."""
    here = context()
    if not here.store.of(key).jobs.take(kind, token, identity()):
        return
    step = LONG_STEPS[JobKind(kind)][0]
    project = here.store.projects.get(key)
    if project is None:
        return
    started = time.monotonic()
    aware = log_context(project=project.studio_project_id, step=kind, round=_round(here.store, key))
    with aware, Heartbeat(here.store, key, kind, token) as heart:
        try:
            step(Work(here, project), heart.progress)
            here.store.of(key).jobs.finish(kind, token)
            here.queueing.meters.note(JOB_METER, kind, time.monotonic() - started)
            logger.info("done in %.1f s", time.monotonic() - started)
        except (Superseded, Stopped) as error:
            logger.info("%s", error)
            here.store.of(key).jobs.finish(kind, token)
        except Exception as error:
            message = _known(error) or f"{type(error).__name__}: {error}"
            here.queueing.meters.note(JOB_METER, kind, time.monotonic() - started, ok=False)
            logger.warning("failed", exc_info=True)
            longest_s = OUTAGE_RETRY_S if isinstance(error, StudioUnreachable) else LAST_RETRY_S
            here.store.of(key).jobs.fail(kind, token, message, longest_s)
    here.queueing.wake(key)


def score_tasks(key: int, task_ids: list[int], until: float) -> dict[str, list[float]]:
    """Score tasks that the newest model has not seen: posteriors by task id, those of unusable images left out.

    until: when nobody waits for them any more, as ``time.time`` counts.
    """
    here = context()
    project = here.store.projects.get(key)
    if project is None:
        return {}
    return {str(task_id): row for task_id, row in score.score_tasks(Work(here, project), task_ids, until).items()}


def tick() -> None:
    """Ask for every live project to be advanced: no lost event stops one. Those at rest are looked at now and then.

    While that cannot be asked for, nobody else can tell people why nothing happens; what is said goes with the next
    ``advance``.
    """
    here = context()
    all_too = time.time() % REST_S < TICK_S
    try:
        for project in here.store.projects.all(active=None if all_too else True):
            here.queueing.wake(project.id)
    except QueueUnavailable as error:
        logger.warning("%s", error)
        text = f"Work waits, and goes on by itself once it can be given to the workers again. {error}"
        for project in here.store.projects.all(active=True):
            if project.error is None:
                here.store.projects.set(project.id, error=text)


def on_worker_start(identity: str) -> None:
    """Free what a dead predecessor of this worker was doing."""
    here = context()
    drop_leftovers(here.settings.data_dir, time.time())
    freed = here.store.release_worker(identity)
    if freed:
        logger.warning("%d job(s) of a worker that died will be taken up again", freed)


def _watch_for_mending(here: Context, project: ProjectRow, error: Exception) -> Exception:
    """Look at a project that cannot be worked on: its labeling interface may have been mended meanwhile."""
    try:
        info = fetch_settings(studio_of(here, project), project)
    except ProjectGone as gone:
        here.store.projects.set(project.id, active=False)
        return gone
    except BackendError as unreachable:
        return unreachable
    if info.label_config != project.label_config:
        here.store.projects.set(project.id, label_config=info.label_config, cursor=None)
        here.queueing.wake(project.id)
    return error
