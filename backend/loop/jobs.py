"""What the workers run. Arguments are JSON; everything else is opened here."""

import logging
import time

from backend import queueing
from backend.errors import BackendError, ConfigError, ProjectError, StudioMissing, Superseded
from backend.loop.context import Context, Work, context, studio_of
from backend.loop.decide import JOB_OF_STEP, Step, next_step
from backend.loop.facts import JobKind, gather
from backend.loop.heartbeat import Heartbeat, Stopped
from backend.loop.steps import pretext, queue, record, retrain, score, sync
from backend.loop.steps.plan import extend, plan
from backend.loop.steps.pull import observe
from backend.loop.steps.upkeep import upkeep, write_card
from backend.store import ProjectRow
from model.errors import ModelError

logger = logging.getLogger(__name__)

ADVANCE_S = 3.0  # one ``advance`` takes up no further step after so long: other projects and new answers wait
TICK_S = 15.0  # how often the timer advances every live project

SHORT_STEPS = {
    Step.POST: queue.post,
    Step.SWITCH: queue.switch,
    Step.CLEAN: queue.clean,
    Step.TOP_UP: queue.top_up,
    Step.EXTEND: extend,
    Step.RESTART: pretext.restart,
    Step.SPLIT: pretext.split_pool,
    Step.PLAN: plan,
}
LONG_STEPS = {
    JobKind.SYNC: (sync.sync, queueing.IO),
    JobKind.RECORD: (record.record, queueing.IO),
    JobKind.PRETEXT: (pretext.pretext, queueing.TRAIN),
    JobKind.RETRAIN: (retrain.retrain, queueing.TRAIN),
}


def advance(key: int) -> None:
    """Bring a project one or more steps further; always short."""
    here = context()
    here.queueing.hint_taken(key)
    with here.queueing.lock(key) as held:
        project = here.store.projects.get(key)
        if not held or project is None or not project.active:
            return
        error = _advance(here, project)
        if error != project.error:
            here.store.projects.set(key, error=error)
        write_card(here, key)


def _advance(here: Context, project: ProjectRow) -> str | None:
    """Do what can be done; give what is wrong, in words for a person."""
    try:
        work = Work(here, project)
        if not upkeep(work):
            here.store.projects.set(project.id, active=False)
            return "This backend was disconnected in Label Studio; connect it again to go on."
        _walk(work)
    except StudioMissing as error:
        here.store.projects.set(project.id, active=False)
        return f"{error}; connect the model again to go on"
    except (ProjectError, ConfigError) as error:
        return _with_tasks_seen(here, project, error)
    except Superseded:
        return None
    except (BackendError, ModelError) as error:
        return str(error)
    except Exception as error:
        logger.exception("project %s could not be advanced", project.id)
        return f"An error of this backend ({type(error).__name__}: {error}); its log has the details."
    return None


def _walk(work: Work) -> None:
    seen = observe(work)
    if work.project.notice != work.spec.notice:
        work.store.projects.set(work.key, notice=work.spec.notice)
    work.store.jobs.drop_lost(work.key, work.context.queueing.is_queued)
    deadline = time.monotonic() + ADVANCE_S
    before = None
    while time.monotonic() < deadline:
        work.reload()
        facts = gather(work.store, work.project, work.config, seen)
        step = next_step(facts)
        if step == Step.WAIT:
            return
        if before == (step, facts) and step != Step.CLEAN:
            logger.warning("project %s: '%s' has changed nothing; waiting for the timer", work.key, step)
            return
        before = (step, facts)
        logger.debug("project %s: %s", work.key, step)
        if step in JOB_OF_STEP:
            _start(work, JOB_OF_STEP[step])
            continue
        SHORT_STEPS[step](work)
        if step == Step.SWITCH:
            seen = observe(work)
    work.context.queueing.hint(work.key)  # look at what has happened meanwhile, then go on


def _start(work: Work, kind: JobKind) -> None:
    token = work.store.jobs.start(work.key, kind)
    if token is not None:
        work.context.queueing.enqueue(LONG_STEPS[kind][1], kind, work.key, token)


def run(kind: str, key: int, token: str) -> None:
    """Run a long job, if this attempt is still the one that may; then ask for the next step."""
    here = context()
    if not here.store.jobs.take(key, kind, token, queueing.identity()):
        return
    step = LONG_STEPS[JobKind(kind)][0]
    project = here.store.projects.get(key)
    if project is None:
        return
    started = time.monotonic()
    with Heartbeat(here.store, key, kind, token) as heart:
        try:
            step(Work(here, project), heart.progress)
            here.store.jobs.finish(key, kind, token)
            logger.info("project %s: %s done in %.1f s", key, kind, time.monotonic() - started)
        except (Superseded, Stopped) as error:
            logger.info("%s", error)
            here.store.jobs.finish(key, kind, token)
        except Exception as error:
            message = (
                str(error) if isinstance(error, (BackendError, ModelError)) else f"{type(error).__name__}: {error}"
            )
            logger.warning("project %s: %s failed", key, kind, exc_info=True)
            here.store.jobs.fail(key, kind, token, message)
    here.queueing.hint(key)


def score_tasks(key: int, task_ids: list[int]) -> dict[str, list[float]]:
    """Score tasks that the newest model has not seen: posteriors by task id, those of unusable images left out."""
    here = context()
    project = here.store.projects.get(key)
    if project is None:
        return {}
    return {str(task_id): row for task_id, row in score.score_tasks(Work(here, project), task_ids).items()}


def tick() -> None:
    """Ask for every live project to be advanced: no lost event stops one."""
    here = context()
    for project in here.store.projects.all(active=True):
        here.queueing.hint(project.id)


def on_worker_start(identity: str) -> None:
    """Free what a dead predecessor of this worker was doing."""
    here = context()
    freed = here.store.jobs.release_worker(identity)
    if freed:
        logger.warning("%d job(s) of a worker that died will be taken up again", freed)


def _with_tasks_seen(here: Context, project: ProjectRow, error: Exception) -> str:
    """Look at the project although it cannot be worked on: its configuration may have been mended meanwhile."""
    try:
        info = studio_of(here, project).project(project.studio_id)
    except StudioMissing as missing:
        here.store.projects.set(project.id, active=False)
        return str(missing)
    except BackendError as unreachable:
        return f"{error}; and {unreachable}"
    if info.label_config != project.label_config:
        here.store.projects.set(project.id, label_config=info.label_config, cursor=None)
        here.queueing.hint(project.id)
    return str(error)
