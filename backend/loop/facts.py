"""What is known of a project at one moment; all that a decision may rest on."""

import hashlib
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum

from backend.config import ProjectConfig
from backend.store import JobState, ProjectRow, RoundRow, RoundState, Store
from backend.store.jobs import is_alive, is_waiting
from backend.store.rounds import AskCounts
from backend.store.task_counts import TaskCounts

UNCERTAINTY = "Uncertainty sampling"
OUTGROWN = 1.5  # a pool so many times larger than the one the pretext model saw deserves a new model


class JobKind(StrEnum):
    """The long jobs, one of a kind per project."""

    SYNC = "sync"
    PRETEXT = "pretext"
    SPLIT = "split"  # of a large pool; a small one is split on the way
    RETRAIN = "retrain"
    RECORD = "record"
    FINAL = "autolabel"
    EXPORT = "export"


@dataclass(frozen=True)
class Observation:
    """What Label Studio said when it was last asked."""

    model_version: str | None = None
    sampling: str | None = None
    unsynced: bool = False  # more tasks have changed than were read so far
    training_requested: bool = False  # it was before the answers were read: all that were given by then are here


@dataclass(frozen=True)
class Facts:
    """The facts of one project."""

    tasks: TaskCounts = field(default_factory=TaskCounts)
    asks: AskCounts = field(default_factory=AskCounts)
    asked: int = 0  # queue size of the current round
    planned: bool = False  # the current round is planned, not yet served
    live: bool = False  # the current round is served, and not trained on yet
    served: bool = False  # the current round is served, trained on or not
    version_right: bool = True
    sampling_right: bool = True
    superseded: int = 0  # rounds whose predictions may go
    extendable: bool = False  # there are images that the current round does not ask
    unsynced: bool = False
    pretext_current: bool = False  # losses belong to the present configuration
    stale: bool = False  # losses or batches have to be forgotten first
    split_images: int = 0  # images with a batch
    split_current: bool = False  # batches belong to the present configuration, and to a split that was finished
    training_requested: bool = False
    final_ordered: bool = False  # predictions for all that nobody labels are to be written
    unexported: bool = False  # the newest model lies there for us alone
    running: frozenset[JobKind] = frozenset()  # or queued
    resting: frozenset[JobKind] = frozenset()  # failed, and waiting for the next try

    @property
    def busy(self) -> frozenset[JobKind]:
        """Kinds of jobs of which no other may be started now."""
        return self.running | self.resting


def gather(store: Store, project: ProjectRow, config: ProjectConfig, seen: Observation) -> Facts:
    """Read the facts of ``project`` from the store and from what Label Studio said."""
    now = time.time()
    tasks, split_current = store.of(project.id).tasks.counts(now), project.split_key == split_key(config)
    if not split_current:  # the batches are not whole yet, and the first queue comes before what Label Studio is told
        tasks = replace(tasks, unrecorded=0)
    current = store.of(project.id).rounds.current()
    asks = store.of(project.id).rounds.counts(current.number) if current else AskCounts()
    live = current is not None and current.state == RoundState.LIVE
    pretext_current = project.pretext_key == pretext_key(config, project.image_side)
    newest, order = store.of(project.id).rounds.newest_model(), store.of(project.id).autolabel.get()
    jobs = store.of(project.id).jobs.all()
    return Facts(
        tasks=tasks,
        asks=asks,
        asked=current.asked if current else 0,
        planned=current is not None and current.state == RoundState.PLANNED,
        live=live,
        served=current is not None and current.live_at is not None,
        version_right=current is not None and seen.model_version == current.model_version,
        sampling_right=seen.sampling == UNCERTAINTY,
        superseded=len(store.of(project.id).rounds.to_clean()),
        extendable=split_current and tasks.askable > asks.waiting + asks.reserve,
        unsynced=seen.unsynced,
        pretext_current=pretext_current,
        stale=_is_stale(project, config, tasks, current, asks, pretext_current),
        split_current=split_current,
        split_images=tasks.ok - tasks.unscored - tasks.unsplit,
        training_requested=seen.training_requested and project.training_requested,
        final_ordered=order is not None and order.written_at is None,
        unexported=newest is not None and not newest.exported,
        running=frozenset(JobKind(job.kind) for job in jobs if is_alive(job, now)),
        resting=frozenset(JobKind(job.kind) for job in jobs if job.state == JobState.FAILED and is_waiting(job, now)),
    )


def pretext_key(config: ProjectConfig, side: int | None) -> str:
    """Name the settings that pretext losses depend on."""
    parts = (config.pretext, config.network, config.recipe, config.seed, side)
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]


def split_key(config: ProjectConfig) -> str:
    """Name the settings that the batches depend on."""
    return f"{config.batch_order}/{config.rounds}"


def _is_stale(
    project: ProjectRow,
    config: ProjectConfig,
    tasks: TaskCounts,
    current: RoundRow | None,
    asks: AskCounts,
    pretext_current: bool,
) -> bool:
    if wanted_side(config) not in (None, project.image_side) and project.image_side is not None:
        return True
    if project.pretext_key is not None and not pretext_current:
        return True
    if project.split_key is not None and project.split_key != split_key(config):
        return True
    untouched = current is None or (current.number == 0 and asks.answered == 0)
    return (
        pretext_current and untouched and tasks.ok > max(OUTGROWN * project.pretext_images, project.pretext_images + 1)
    )


def wanted_side(config: ProjectConfig) -> int | None:
    """Give the configured side of the bank's images in pixels, or None if it follows from the images."""
    return config.image_size if isinstance(config.image_size, int) else None
