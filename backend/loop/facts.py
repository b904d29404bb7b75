"""The inputs of ``decide.next_step``: what is known of a project at one moment."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from backend.config import ProjectConfig
from backend.loop.keys import configured_side, features_key, keeps_activations, pretext_key, split_key, view_side
from backend.project_files import Files
from backend.status.twins import read_twins
from backend.store import JobState, ProjectRow, ProjectStore, RoundRow, RoundState
from backend.store.jobs import is_alive, is_waiting
from backend.store.rounds import AskCounts
from backend.store.task_counts import TaskCounts
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.data.views import ViewBank
from model.errors import BankError
from model.learners.registry import AUTO, FINETUNE, LINEAR, OWN
from model.learners.trials import Choice, is_wanted
from model.problems import problem
from model.querying.first_queries import first_query

CHOSEN = "chosen"  # in a round's learner: the choice that was made after its training
UNCERTAINTY_SAMPLING = "Uncertainty sampling"  # Label Studio's name
PATIENCE_S = 30.0  # for which a first queue waits for the images of a large pool
OUTGROWN = 1.5  # a pool so many times larger than the one the pretext model saw deserves a new model
MANY_LATER, MOSTLY_LATER = 0.5, 0.75  # shares of later tasks above which sizes are measured, and all follows the pool


class JobKind(StrEnum):
    """The long jobs, one of a kind per project."""

    SYNC = "sync"
    EMBED = "embed"  # features of another encoder, or of a project that has none yet
    PRETEXT = "pretext"
    SPLIT = "split"  # of a large pool; a small one is split inside ``advance``
    RETRAIN = "retrain"
    REFINE = "refine"  # compares learners, and trains the chosen one
    RECORD = "record"
    AUTOLABEL = "autolabel"
    EXPORT = "export"
    TWINS = "twins"  # counts images that are equal or look nearly alike


class StaleReason(StrEnum):
    """Why losses or batches have to be forgotten, or images fetched again."""

    OTHER_SIZES = "most images came later, and have other sizes or ranges"
    MOSTLY_NEW = "nearly all pictures came later"

    IMAGE_SIZE = "another image size is configured"
    PRETEXT = "another pretext task, network, recipe, seed or number of epochs is configured"
    SPLIT = "another order or number of batches is configured"
    OUTGROWN = "the pool is much larger than the one the pretext model was trained on"


@dataclass(frozen=True)
class Observation:
    """What Label Studio said when it was last asked.

    tasks: how many it has. unread: more tasks have changed than were read so far. count_differs: all changes are read,
    and the store still has another number of tasks: some were deleted, or missed. training_requested: it was, before
    the answers were read: all that were given by then are in the store.
    """

    model_version: str | None = None
    sampling: str | None = None
    tasks: int = 0
    unread: bool = False
    count_differs: bool = False
    training_requested: bool = False


@dataclass(frozen=True)
class Facts:
    """The facts of one project."""

    tasks: TaskCounts = field(default_factory=TaskCounts)
    asks: AskCounts = field(default_factory=AskCounts)
    maintenance_due: bool = False  # webhook, tab and connection have to be looked at
    asked: int = 0  # queue size of the current round
    live_round: int | None = None  # number of the newest round that was served
    finished: bool = False  # all batches are asked, or every image is answered and learned from
    planned: bool = False  # the current round is planned, not yet served
    collecting: bool = False  # the current round is served, and not trained on yet
    served: bool = False  # the current round is served, trained on or not
    version_right: bool = True
    sampling_right: bool = True
    superseded: int = 0  # rounds whose predictions may go
    own_network: bool = True  # the main model is a network of our own, all of whose rounds wait for losses and batches
    features_current: bool = False  # every image has the features of the encoder, and a view if one is needed
    activations_current: bool = True  # every image has those of the last block, if a learner may read them
    waits_for_losses: bool = True  # the first round is asked by losses and batches
    askable: int = 0  # images that a round may ask
    patient: bool = True  # a first queue waits until all images are there
    extendable: bool = False  # there are images that the current round does not ask
    studio_tasks: int = 0  # that Label Studio has
    unread: bool = False
    count_differs: bool = False
    bank_lost: bool = False  # images that the store takes for fetched are not in the bank
    pretext_current: bool = False  # losses belong to the present configuration
    stale: StaleReason | None = None  # losses or batches have to be forgotten first
    unmeasured: bool = False  # the pool whose sizes decided is not noted yet
    many_later: bool = False  # so many tasks came after that pool that the sizes have to be measured again
    emptied: bool = False  # no task that the current round has asked is left
    outlived: bool = False  # no task that any round has asked is left, and no model that knows the pool
    to_split: int = 0  # images that a split would go through
    split_images: int = 0  # images with a batch
    split_current: bool = False  # batches belong to the present configuration, and to a split that was finished
    training_requested: bool = False
    autolabel_ordered: bool = False  # predictions for all that nobody labels are to be written
    unrefined: bool = False  # the learner of the newest model may be compared with others
    twins_uncounted: bool = False  # how many images are equal or look alike is not known, or of another pool
    unexported: bool = False  # the newest model is not written for other programs yet
    running: frozenset[JobKind] = frozenset()  # or queued
    resting: frozenset[JobKind] = frozenset()  # failed, and waiting for the next try

    @property
    def ready(self) -> bool:
        """Whether what a round is chosen by is there: features, or losses of the present configuration."""
        return self.pretext_current if self.own_network else self.features_current

    @property
    def busy(self) -> frozenset[JobKind]:
        """Kinds of jobs of which no other may be started now."""
        return self.running | self.resting


def gather(
    store: ProjectStore,
    files: Files,
    config: ProjectConfig,
    observed: Observation | None = None,
    *,
    maintenance_due: bool = False,
) -> Facts:
    """Read the facts of a project from the store, and take over what Label Studio said; None: it was not asked."""
    now, row = time.time(), store.row()
    seen = observed or Observation()
    tasks = store.tasks.counts(now)
    current = store.rounds.current()
    asks = store.rounds.counts(current.number) if current else AskCounts()
    emptied = current is not None and asks.left == 0
    newest, order = store.rounds.newest_model(), store.autolabel.get()
    split_current = row.split_key == split_key(config)
    pretext_current = row.pretext_key == pretext_key(config, row.image_side)
    images = store.tasks.pool_size()
    features_current = _are_features_current(files, config, row, images)
    activations_current = _are_activations_current(files, config, row, images, tasks.ok + tasks.new)
    if config.learner == FINETUNE:  # which cannot begin without them
        features_current = features_current and activations_current
    askable = tasks.askable if config.own_network else tasks.available
    ready = split_current if config.own_network else features_current
    waited = row.fetching_since is not None and now - row.fetching_since >= PATIENCE_S
    jobs = store.jobs.all()
    return Facts(
        own_network=config.own_network,
        waits_for_losses=config.own_network or first_query(config.chosen_first_query).by_losses,
        features_current=features_current,
        activations_current=activations_current,
        askable=askable,
        patient=not waited,
        tasks=tasks,
        asks=asks,
        maintenance_due=maintenance_due,
        asked=current.asked if current else 0,
        live_round=_live_round(current),
        finished=current is not None and _is_finished(current, config, tasks),
        planned=current is not None and current.state == RoundState.PLANNED,
        collecting=current is not None and current.state == RoundState.LIVE,
        served=current is not None and current.live_at is not None,
        version_right=observed is None or (current is not None and seen.model_version == current.model_version),
        sampling_right=observed is None or seen.sampling == UNCERTAINTY_SAMPLING,
        superseded=len(store.rounds.to_clean()),
        extendable=ready and askable > asks.waiting + asks.reserve,
        studio_tasks=seen.tasks,
        unread=seen.unread,
        count_differs=seen.count_differs,
        bank_lost=_is_bank_lost(files, row, images),
        pretext_current=pretext_current,
        stale=_stale_reason(row, config, tasks, current, asks, pretext_current),
        unmeasured=row.image_side is not None and row.measured_to is None,
        many_later=row.measured_to is not None and row.stale is None and tasks.later > MANY_LATER * tasks.tasks,
        emptied=emptied,
        outlived=emptied and tasks.ok > 0 and _is_outlived(store, files, newest),
        split_current=split_current,
        # Until a split is whole, one image more or less shifts the ranks, and so the batches, of nearly all.
        to_split=tasks.ok if row.split_key is None else tasks.unsplit,
        split_images=tasks.ok - tasks.unscored - tasks.unsplit,
        training_requested=row.training_requested and (observed is None or seen.training_requested),
        autolabel_ordered=order is not None and order.written_at is None,
        unrefined=_is_unrefined(store, config, row.image_side, newest),
        twins_uncounted=_are_twins_uncounted(files, row, tasks.ok),
        unexported=newest is not None and not newest.exported,
        running=frozenset(JobKind(job.kind) for job in jobs if is_alive(job, now)),
        resting=frozenset(JobKind(job.kind) for job in jobs if job.state == JobState.FAILED and is_waiting(job, now)),
    )


def _live_round(current: RoundRow | None) -> int | None:
    if current is None:
        return None
    newest = current.number if current.live_at is not None else current.number - 1  # a round is served before the next
    return newest if newest >= 0 else None


def _is_finished(current: RoundRow, config: ProjectConfig, tasks: TaskCounts) -> bool:
    return current.number >= config.rounds or (current.state == RoundState.CLOSED and tasks.available == 0)


def _is_outlived(store: ProjectStore, files: Files, newest: RoundRow | None) -> bool:
    if newest is not None and files.probs(newest.number).exists():
        return False  # the same pictures have come back as other tasks
    return not store.rounds.is_any_task_left()


def _is_bank_lost(files: Files, row: ProjectRow, expected: int) -> bool:
    if row.image_side is None or not expected:
        return False
    try:
        return len(ImageBank.open(files.bank(row.image_side))) < expected
    except BankError:
        return True


def _are_twins_uncounted(files: Files, row: ProjectRow, images: int) -> bool:
    try:
        bank = ImageBank.open(files.bank(row.image_side or 0))
    except BankError:
        return False
    counts = read_twins(files)
    known = counts is not None and counts.is_of(images, len(bank)) and counts.is_compared(images, row.features_key)
    return not (known and bank.is_digested)


def _is_unrefined(store: ProjectStore, config: ProjectConfig, side: int | None, newest: RoundRow | None) -> bool:
    if config.own_network or config.learner != AUTO or newest is None or newest.learner is None:
        return False
    if not {LINEAR, OWN} <= {*problem(newest.problem).learners}:
        return False  # nothing to compare
    known = last_choice(store.rounds.all())
    return CHOSEN not in newest.learner and side is not None and is_wanted(known, newest.labels or 0, side)


def last_choice(rounds: Sequence[RoundRow]) -> Choice | None:
    """Return the choice of a learner that was made after the newest of these rounds that has one."""
    known = (row.learner[CHOSEN] for row in reversed(rounds) if row.learner is not None and CHOSEN in row.learner)
    found = next(known, None)
    return Choice(**found) if found is not None else None


def _are_features_current(files: Files, config: ProjectConfig, row: ProjectRow, expected: int) -> bool:
    key = features_key(config, row.encoder_side)
    if key is None or row.features_key != key:
        return False
    side = view_side(row)
    try:
        viewed = side is None or len(ViewBank.open(files.views(side))) >= expected
        return viewed and len(FeatureBank.open(files.features(key))) >= expected
    except BankError:
        return expected == 0  # nothing was embedded yet


def _are_activations_current(files: Files, config: ProjectConfig, row: ProjectRow, expected: int, size: int) -> bool:
    """Tell whether no learner may read activations, or all images that were fetched have them."""
    key = features_key(config, row.encoder_side)
    if key is None or not keeps_activations(config, row, size):
        return True
    try:
        bank = FeatureBank.open(files.activations(key))
        return bank.dim == 0 or len(bank) >= expected
    except BankError:
        return expected == 0


def _stale_reason(
    row: ProjectRow,
    config: ProjectConfig,
    tasks: TaskCounts,
    current: RoundRow | None,
    asks: AskCounts,
    pretext_current: bool,
) -> StaleReason | None:
    if row.image_side is not None and configured_side(config) not in (None, row.image_side):
        return StaleReason.IMAGE_SIZE
    if row.stale is not None:
        return StaleReason[row.stale]
    if row.pretext_key is not None and not pretext_current:
        return StaleReason.PRETEXT
    if row.split_key is not None and row.split_key != split_key(config):
        return StaleReason.SPLIT
    untouched = current is None or (current.number == 0 and asks.answered == 0)
    outgrown = tasks.ok > max(OUTGROWN * row.pretext_images, row.pretext_images + 1)
    return StaleReason.OUTGROWN if pretext_current and untouched and outgrown else None
