"""What a project needs next, and the stage that it is in: pure functions of the facts.

Every decision of the loop is a row of the table at the end of this file.
"""

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import NamedTuple

from backend.loop.facts import Facts, JobKind, StaleReason

MIN_IMAGES = 2  # below this there is nothing to tell apart
LOOK_AHEAD = 3  # spans of ``store.task_counts.RECENT_S`` for which the queue should last
INLINE_IDS = 10_000  # tasks whose ids ``advance`` lists by itself (0.2 s a thousand); of more, a sync job does
READS_ROUNDS = frozenset({JobKind.RETRAIN, JobKind.REFINE, JobKind.EXPORT, JobKind.AUTOLABEL})
INLINE_SPLIT = 25_000  # images whose batches are written within a second or two; of more, a split job writes them


class Step(StrEnum):
    """The steps of the loop. Those that share a name with a job only start it."""

    MAINTAIN = "maintain"  # see to webhook, tab and connection
    RECONCILE = "reconcile"  # find deleted and missed tasks by their ids
    POST = "post"  # write the queue's predictions
    SWITCH = "switch"  # have Label Studio serve the round: version and sampling
    TOP_UP = "top_up"  # post reserve before annotators run dry
    EXTEND = "extend"  # find more reserve
    REFETCH = "refetch"  # have all images fetched again, after the bank was lost
    SYNC = "sync"
    EMBED = "embed"
    RESTART = "restart"  # forget losses or batches that another configuration, or a much smaller pool, has left
    PRETEXT = "pretext"
    SPLIT = "split"
    SPLIT_LARGE = "split_large"
    PLAN = "plan"
    RETRAIN = "retrain"
    REFINE = "refine"
    RECORD = "record"
    AUTOLABEL = "autolabel"  # label the rest
    EXPORT = "export"  # write the newest model for other programs
    TWINS = "twins"  # count images that are equal or look nearly alike
    CLEAN = "clean"  # delete superseded predictions
    DROP = "drop"  # forget a round of which no task is left
    FORGET = "forget"  # forget all rounds: no task that they asked is left
    NOTE_POOL = "note_pool"  # note the pool whose sizes decided
    IGNORE_REQUEST = "ignore_request"  # forget that a training was asked for: there is nothing new to train on
    WAIT = "wait"


class Stage(StrEnum):
    """What people are told that a project is doing."""

    SYNCING = "syncing"
    PRETEXT = "pretext"
    RECORDING = "recording"
    LABELING = "labeling"
    TRAINING = "training"
    FINISHED = "finished"
    FAILED = "failed"


JOB_OF_STEP = {
    Step.SYNC: JobKind.SYNC,
    Step.EMBED: JobKind.EMBED,
    Step.PRETEXT: JobKind.PRETEXT,
    Step.SPLIT_LARGE: JobKind.SPLIT,
    Step.RETRAIN: JobKind.RETRAIN,
    Step.REFINE: JobKind.REFINE,
    Step.RECORD: JobKind.RECORD,
    Step.AUTOLABEL: JobKind.AUTOLABEL,
    Step.EXPORT: JobKind.EXPORT,
    Step.TWINS: JobKind.TWINS,
}
# Planning reads what the training has just written. The worker of that job plans right away, if the table calls for it:
# no other project's step waits for it then.
FOLLOW_UP = {JobKind.RETRAIN: Step.PLAN}
OBSERVED_AGAIN = frozenset({Step.SWITCH, Step.RECONCILE})  # they change what Label Studio was seen to have
REPEATED = frozenset({Step.CLEAN})  # each time does a part of the work, which the facts do not show
READS_BANK = frozenset(
    {JobKind.SYNC, JobKind.EMBED, JobKind.PRETEXT, JobKind.RETRAIN, JobKind.REFINE, JobKind.EXPORT, JobKind.TWINS}
)


def next_step(facts: Facts, passing: Collection[Step] = ()) -> Step:
    """Return the first step that is missing, annotators first: the rows are tried from top to bottom.

    A step whose job is running, or waits for its next try after a failure, is passed over, so that long work never
    holds up the queue; so are the steps in ``passing``, which were tried on these facts without effect.
    """
    for row in ROWS:
        if row.step not in passing and row.is_missing(facts) and JOB_OF_STEP.get(row.step) not in facts.busy:
            return row.step
    return Step.WAIT


def is_missing(step: Step, facts: Facts) -> bool:
    """Tell whether the table calls for a step, whatever else it calls for."""
    return any(row.step == step and row.is_missing(facts) for row in ROWS)


def unwanted_jobs(facts: Facts) -> set[JobKind]:
    """Return the kinds of jobs that nothing calls for: what one of them failed at has been done in another way."""
    return {kind for step, kind in JOB_OF_STEP.items() if not is_missing(step, facts)}


def stage(facts: Facts) -> Stage:
    """Return the stage of a project without an error: that of the first work under way, else of the first missing.

    Before the first queue is served all work counts; afterwards what annotators notice: training, and the recording of
    the first losses.
    """
    counts = {Stage.SYNCING, Stage.PRETEXT} if facts.live_round is None else {Stage.TRAINING}
    if facts.live_round == 0:
        counts.add(Stage.RECORDING)
    staged = [row for row in ROWS if row.stage in counts]
    for is_under_way in (lambda row: JOB_OF_STEP.get(row.step) in facts.running, lambda row: row.is_missing(facts)):
        for row in staged:
            if row.stage is not None and is_under_way(row):
                return row.stage
    if facts.live_round is None:
        return Stage.PRETEXT if facts.tasks.ok >= MIN_IMAGES else Stage.SYNCING
    return Stage.FINISHED if facts.finished else Stage.LABELING


def low_water(asked: int, recent: int) -> int:
    """Return the number of unanswered images in Label Studio at which reserve is posted.

    Large enough that annotators cannot empty it before more is there: a few quick ones at least, and what they answer
    in half a minute at the pace of the last ten seconds (``recent`` answers).
    """
    return max(10, asked // 4, LOOK_AHEAD * recent)


def is_complete(facts: Facts) -> bool:
    """Tell whether as many images of queue and reserve are answered as the round asked, or no more can be."""
    if not facts.collecting or facts.asks.unposted:
        return False
    asked_out = facts.asks.waiting == 0 and facts.asks.reserve == 0 and facts.tasks.available == 0
    # While images are fetched again (another size is configured), there is nothing to ask, but there will be.
    exhausted = asked_out and facts.ready and facts.tasks.new == 0 and not _is_unread(facts)
    return facts.asks.answered >= facts.asked or exhausted


def is_stuck(facts: Facts) -> bool:
    """Tell whether a round is answered without one answer that can be learned: another like it would be no better.

    It goes on with the first such answer, and reserve is served meanwhile. Where nothing is left to ask, the round may
    close, if a model can be trained on earlier answers.
    """
    asks = facts.asks
    if not is_complete(facts) or asks.useless < asks.answered or asks.useless + asks.by_model == 0:
        return False
    return facts.tasks.available > 0 or facts.tasks.trainable == 0


def is_dry(facts: Facts) -> bool:
    """Tell whether annotators are about to run out of served images."""
    few = facts.asks.waiting <= low_water(facts.asked, facts.tasks.recent)
    return facts.served and facts.asks.unposted == 0 and few


def _is_unread(facts: Facts) -> bool:
    return facts.unread or facts.count_differs


def _wants_reconcile(facts: Facts) -> bool:
    return facts.count_differs and facts.studio_tasks <= INLINE_IDS


def _wants_sync(facts: Facts) -> bool:
    if facts.stale == StaleReason.OTHER_SIZES:
        return False  # what is fetched now would be wasted
    changed = facts.unread or (facts.count_differs and facts.studio_tasks > INLINE_IDS)
    return changed or facts.tasks.new + facts.tasks.renewed > 0 or facts.many_later


def _wants_post(facts: Facts) -> bool:
    return (facts.planned or facts.served) and facts.asks.unposted + facts.asks.doubtful > 0


def _wants_drop(facts: Facts) -> bool:
    if facts.planned and facts.asks.unposted + facts.asks.waiting + facts.asks.answered == 0:
        return True
    return (facts.planned or facts.collecting) and facts.emptied and not facts.running & READS_ROUNDS


def _wants_embed(facts: Facts) -> bool:
    return not facts.own_network and not facts.features_current and facts.tasks.ok > 0 and facts.tasks.new == 0


def _wants_activations(facts: Facts) -> bool:
    """Tell whether images have features, but not yet what a fine-tuned block is given; annotators never wait for it."""
    return facts.features_current and not facts.activations_current and facts.live_round is not None


def _wants_refine(facts: Facts) -> bool:
    """Tell whether learners are to be compared: behind what annotators wait for, and the losses, known sooner."""
    ready = facts.activations_current or JobKind.EMBED in facts.resting
    return facts.unrefined and ready and not _wants_retrain(facts) and not _wants_pretext(facts)


def _wants_pretext(facts: Facts) -> bool:
    if not facts.waits_for_losses and facts.live_round is None and (facts.askable > 0 or not facts.features_current):
        return False  # annotators, if there is anything left for them, do not wait for losses
    fetched = not _is_unread(facts) and facts.tasks.new == 0
    enough = facts.tasks.ok >= MIN_IMAGES
    return enough and ((fetched and not facts.pretext_current) or (facts.pretext_current and facts.tasks.unscored > 0))


def _wants_split(facts: Facts) -> bool:
    ready = facts.pretext_current and facts.tasks.unscored == 0 and facts.stale is None
    return ready and (facts.tasks.unsplit > 0 or (facts.tasks.ok > 0 and not facts.split_current))


def _wants_plan(facts: Facts) -> bool:
    split = facts.pretext_current and facts.split_current and facts.tasks.unsplit == 0 and facts.split_images > 0
    if facts.own_network:
        ready = split
    else:
        enough = facts.tasks.ok >= MIN_IMAGES
        first = split if facts.waits_for_losses else _all_fetched(facts)
        ready = facts.features_current and enough and (facts.live_round is not None or first)
    return ready and not (facts.planned or facts.collecting or facts.outlived) and facts.askable > 0


def _all_fetched(facts: Facts) -> bool:
    """Tell whether the images of the pool are there, or a first queue has waited for them for long enough."""
    return not facts.patient or (not _is_unread(facts) and facts.tasks.new == 0)


def _wants_retrain(facts: Facts) -> bool:
    if not facts.collecting or facts.asks.answered == 0:
        return False
    if facts.training_requested and facts.tasks.trainable > 0:
        return True
    return is_complete(facts) and not is_stuck(facts)


class Row(NamedTuple):
    """A step, when it is missing, and the stage of a project that it is missing to."""

    step: Step
    is_missing: Callable[[Facts], bool]
    stage: Stage | None = None


ROWS = (
    # Nothing is written for a project that was disconnected, which this notices.
    Row(Step.MAINTAIN, lambda f: f.maintenance_due),
    Row(Step.RECONCILE, _wants_reconcile),
    Row(Step.POST, _wants_post),
    Row(Step.FORGET, lambda f: f.outlived and not f.running & READS_ROUNDS),
    Row(Step.DROP, _wants_drop),
    Row(Step.SWITCH, lambda f: f.planned and f.asks.unposted == 0),
    Row(Step.SWITCH, lambda f: f.served and not (f.version_right and f.sampling_right)),
    Row(Step.TOP_UP, lambda f: is_dry(f) and f.asks.reserve > 0),
    Row(Step.EXTEND, lambda f: is_dry(f) and f.asks.reserve == 0 and f.extendable),
    Row(Step.REFETCH, lambda f: f.bank_lost and not f.running & READS_BANK, Stage.SYNCING),
    Row(Step.SYNC, _wants_sync, Stage.SYNCING),
    Row(Step.EMBED, _wants_embed, Stage.SYNCING),
    Row(Step.RESTART, lambda f: f.stale is not None and not f.busy, Stage.PRETEXT),  # no job may write old results
    Row(
        Step.NOTE_POOL,
        lambda f: f.unmeasured and f.stale is None and f.tasks.ok > 0 and f.tasks.new == 0 and not _is_unread(f),
    ),
    Row(Step.PRETEXT, _wants_pretext, Stage.PRETEXT),
    Row(Step.SPLIT_LARGE, lambda f: _wants_split(f) and f.to_split > INLINE_SPLIT, Stage.PRETEXT),
    Row(
        Step.SPLIT,
        lambda f: _wants_split(f) and f.to_split <= INLINE_SPLIT and JobKind.SPLIT not in f.running,
        Stage.PRETEXT,
    ),
    Row(Step.PLAN, _wants_plan, Stage.PRETEXT),
    Row(Step.RETRAIN, _wants_retrain, Stage.TRAINING),
    Row(Step.EMBED, _wants_activations),
    Row(Step.REFINE, _wants_refine),
    # Batches that are not whole yet are no business of Label Studio's.
    Row(Step.RECORD, lambda f: f.tasks.unrecorded > 0 and f.split_current, Stage.RECORDING),
    Row(Step.AUTOLABEL, lambda f: f.autolabel_ordered),
    Row(Step.EXPORT, lambda f: f.unexported),
    # Nobody waits for it.
    Row(Step.TWINS, lambda f: f.twins_uncounted and f.live_round is not None and _all_fetched(f)),
    Row(Step.IGNORE_REQUEST, lambda f: f.training_requested and f.collecting and f.asks.answered == 0),
    # Deleting by task and writing predictions for the same tasks do not go together. Nor does deleting while losses are
    # recorded: on SQLite, Label Studio may then wait 13 s for its lock, and the queue with it.
    Row(Step.CLEAN, lambda f: f.superseded > 0 and not f.running & {JobKind.AUTOLABEL, JobKind.RECORD}),
)
