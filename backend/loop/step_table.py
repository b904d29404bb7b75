"""What each step and each job calls, and which parts of the project it is given."""

from collections.abc import Callable
from typing import NamedTuple

from backend.autolabel.step import autolabel
from backend.loop.context import Context, OpenProject
from backend.loop.decide import Step
from backend.loop.facts import Facts, JobKind
from backend.loop.heartbeat import Progress
from backend.loop.steps import pretext, queue
from backend.loop.steps.bank import refetch
from backend.loop.steps.export import export
from backend.loop.steps.features import embed
from backend.loop.steps.maintain_connection import MAINTENANCE_S, connection_state, maintain_connection
from backend.loop.steps.plan import extend, plan
from backend.loop.steps.pull import reconcile
from backend.loop.steps.record import record
from backend.loop.steps.refine import refine
from backend.loop.steps.retrain import retrain
from backend.loop.steps.shards import Shards
from backend.loop.steps.split import split_pool
from backend.loop.steps.sync import sync
from backend.loop.steps.twins import count_twins
from backend.queueing.queues import IO, TRAIN, TimeSlice
from backend.queueing.shards import ShardQueue
from model.problems import problem

MAINTENANCE = "maintenance"  # in the timetable

StepCall = Callable[[Context, OpenProject, Facts], None]
JobCall = Callable[[Context, OpenProject, Progress], None]


class Job(NamedTuple):
    """A long job: the queue whose worker runs it, and what it calls."""

    queue: str
    call: JobCall


def _maintain(context: Context, project: OpenProject, facts: Facts) -> None:
    maintain_connection(project.store, project.studio, is_read=not facts.unread)
    state = connection_state(project.store)
    context.timetable.done(MAINTENANCE, project.row.id, MAINTENANCE_S, state)


def _restart(context: Context, project: OpenProject, facts: Facts) -> None:
    if facts.stale is not None:
        pretext.restart(project.store, project.files, project.config, facts.stale)


def _shards(context: Context, project: OpenProject, progress: Progress) -> Shards:
    queue = ShardQueue(context.queueing, project.row.id)
    return Shards(queue, project.studio, project.files, project.encoders, progress)


def _sync(context: Context, project: OpenProject, progress: Progress) -> None:
    time_slice, shards = TimeSlice(context.queueing, IO), _shards(context, project, progress)
    given = (project.store, project.studio, project.files, project.config, project.encoders)
    sync(*given, time_slice, shards, problem(project.labeling.problem).view_side)


def _embed(context: Context, project: OpenProject, progress: Progress) -> None:
    time_slice, shards = TimeSlice(context.queueing, IO), _shards(context, project, progress)
    given = (project.store, project.studio, project.files, project.config, project.encoders)
    embed(*given, time_slice, shards, problem(project.labeling.problem).view_side)


def _pretext(context: Context, project: OpenProject, progress: Progress) -> None:
    time_slice = TimeSlice(context.queueing, TRAIN, seconds=0.0)  # a training that waits is what annotators wait for
    pretext.pretext(project.store, project.files, project.config, project.encoders, time_slice, progress)


def _split(context: Context, project: OpenProject, progress: Progress) -> None:
    split_pool(project.store, project.files, project.config, progress, TimeSlice(context.queueing, IO).expired)


def _refine(context: Context, project: OpenProject, progress: Progress) -> None:
    expired = TimeSlice(context.queueing, TRAIN, seconds=0.0).expired
    refine(project.store, project.files, project.config, project.labeling, project.device, expired, progress)


STEPS: dict[Step, StepCall] = {
    Step.MAINTAIN: _maintain,
    Step.RECONCILE: lambda c, p, f: reconcile(p.store, p.studio),
    Step.POST: lambda c, p, f: queue.post(p.store, p.studio, p.files, p.labeling, preannotate=p.config.preannotate),
    Step.SWITCH: lambda c, p, f: queue.switch(p.store, p.studio),
    Step.TOP_UP: lambda c, p, f: queue.top_up(p.store, p.studio, p.files, p.labeling, preannotate=p.config.preannotate),
    Step.EXTEND: lambda c, p, f: extend(p.store, p.files, p.config, p.labeling),
    Step.REFETCH: lambda c, p, f: refetch(p.store, p.files),
    Step.RESTART: _restart,
    Step.SPLIT: lambda c, p, f: split_pool(p.store, p.files, p.config),
    Step.PLAN: lambda c, p, f: plan(p.store, p.files, p.config, p.labeling),
    Step.CLEAN: lambda c, p, f: queue.clean(p.store, p.studio),
    Step.DROP: lambda c, p, f: queue.drop(p.store),
    Step.FORGET: lambda c, p, f: queue.forget(p.store, p.files),
    Step.NOTE_POOL: lambda c, p, f: p.store.tasks.note_measured(),
    Step.IGNORE_REQUEST: lambda c, p, f: p.store.set(training_requested=False),
}
JOBS: dict[JobKind, Job] = {
    JobKind.SYNC: Job(IO, _sync),
    JobKind.RECORD: Job(IO, lambda c, p, done: record(p.store, p.studio, TimeSlice(c.queueing, IO), done)),
    JobKind.AUTOLABEL: Job(IO, lambda c, p, done: autolabel(p.store, p.studio, p.files, p.labeling, done)),
    JobKind.SPLIT: Job(IO, _split),
    JobKind.EMBED: Job(IO, _embed),
    JobKind.PRETEXT: Job(TRAIN, _pretext),
    JobKind.REFINE: Job(TRAIN, _refine),
    JobKind.RETRAIN: Job(TRAIN, lambda c, p, done: retrain(p.store, p.files, p.config, p.labeling, p.device, done)),
    JobKind.TWINS: Job(IO, lambda c, p, done: count_twins(p.store, p.files, done)),
    JobKind.EXPORT: Job(IO, lambda c, p, done: export(p.store, p.files, p.encoders.folder, done)),
}
