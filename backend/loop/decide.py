"""What a project needs next: a pure function of the facts."""

from collections.abc import Collection
from enum import StrEnum

from backend.loop.facts import Facts, JobKind

MIN_IMAGES = 2  # below this there is nothing to tell apart
LOOK_AHEAD = 3  # spans of store.tasks.RECENT_S for which the queue should last


class Step(StrEnum):
    """The steps of the loop. Those that share a name with a job only start it."""

    POST = "post"  # write the queue's predictions
    SWITCH = "switch"  # have Label Studio serve the round: version and sampling
    TOP_UP = "top_up"  # post reserve before annotators run dry
    EXTEND = "extend"  # find more reserve
    SYNC = "sync"
    RESTART = "restart"  # forget losses or batches that another configuration, or a much smaller pool, has left
    PRETEXT = "pretext"
    SPLIT = "split"
    PLAN = "plan"
    RETRAIN = "retrain"
    RECORD = "record"
    FINAL = "final"  # label the rest
    EXPORT = "export"  # write the newest model for other programs
    CLEAN = "clean"  # delete superseded predictions
    DROP = "drop"  # forget a planned round of which no task is left
    WAIT = "wait"


JOB_OF_STEP = {
    Step.SYNC: JobKind.SYNC,
    Step.PRETEXT: JobKind.PRETEXT,
    Step.RETRAIN: JobKind.RETRAIN,
    Step.RECORD: JobKind.RECORD,
    Step.FINAL: JobKind.FINAL,
    Step.EXPORT: JobKind.EXPORT,
}


def next_step(facts: Facts, passing: Collection[Step] = ()) -> Step:
    """Give the first step that is missing, annotators first: the rows below are tried from top to bottom.

    A step whose job is running, or waits for its next try after a failure, is passed over, so that long work
    never holds up the queue; so are the steps in ``passing``, which were tried on these facts without effect.
    """
    for step, missing in _ROWS:
        if step not in passing and missing(facts) and JOB_OF_STEP.get(step) not in facts.busy:
            return step
    return Step.WAIT


def unwanted(facts: Facts) -> set[JobKind]:
    """Give the kinds of jobs that nothing calls for: what one of them failed at has been done in another way."""
    behind = {**JOB_OF_STEP, Step.SPLIT: JobKind.SPLIT}
    return {*behind.values()} - {behind[step] for step, missing in _ROWS if step in behind and missing(facts)}


def low_water(asked: int, recent: int) -> int:
    """Give the number of unanswered images in Label Studio at which reserve is posted.

    Large enough that annotators cannot empty it before more is there: a few quick ones at least, and what they
    answer in half a minute at the pace of the last ten seconds (``recent`` answers).
    """
    return max(10, asked // 4, LOOK_AHEAD * recent)


def is_complete(facts: Facts) -> bool:
    """Tell whether as many images of queue and reserve are answered as the round asked, or no more can be."""
    if not facts.live or facts.asks.unposted:
        return False
    asked_out = facts.asks.waiting == 0 and facts.asks.reserve == 0 and facts.tasks.available == 0
    # While images are fetched again (another size is configured), there is nothing to ask, but there will be.
    exhausted = asked_out and facts.pretext_current and facts.tasks.new == 0 and not facts.unsynced
    return facts.asks.answered >= facts.asked or exhausted


def is_dry(facts: Facts) -> bool:
    """Tell whether annotators are about to run out of served images."""
    return (
        facts.served and facts.asks.unposted == 0 and facts.asks.waiting <= low_water(facts.asked, facts.tasks.recent)
    )


def _wants_plan(facts: Facts) -> bool:
    ready = facts.pretext_current and facts.split_current and facts.tasks.unsplit == 0 and facts.split_images > 0
    return ready and not facts.planned and not facts.live and facts.tasks.askable > 0


def _wants_split(facts: Facts) -> bool:
    ready = facts.pretext_current and facts.tasks.unscored == 0 and not facts.stale
    return ready and (facts.tasks.unsplit > 0 or (facts.tasks.ok > 0 and not facts.split_current))


def _wants_retrain(facts: Facts) -> bool:
    if not facts.live:
        return False
    asked_for = facts.training_requested and facts.tasks.trainable > 0 and facts.asks.answered > 0
    return asked_for or (is_complete(facts) and facts.asks.answered > 0)


def _wants_pretext(facts: Facts) -> bool:
    fetched = not facts.unsynced and facts.tasks.new == 0
    enough = facts.tasks.ok >= MIN_IMAGES
    return enough and ((fetched and not facts.pretext_current) or (facts.pretext_current and facts.tasks.unscored > 0))


_ROWS = (
    (Step.POST, lambda f: f.planned and (f.asks.unposted > 0 or f.asks.doubtful > 0)),
    (Step.POST, lambda f: f.served and (f.asks.unposted > 0 or f.asks.doubtful > 0)),
    (Step.DROP, lambda f: f.planned and f.asks.unposted + f.asks.waiting + f.asks.answered == 0),
    (Step.SWITCH, lambda f: f.planned and f.asks.unposted == 0),
    (Step.SWITCH, lambda f: f.served and not (f.version_right and f.sampling_right)),
    (Step.TOP_UP, lambda f: is_dry(f) and f.asks.reserve > 0),
    (Step.EXTEND, lambda f: is_dry(f) and f.asks.reserve == 0 and f.extendable),
    (Step.SYNC, lambda f: f.unsynced or f.tasks.new > 0),
    (Step.RESTART, lambda f: f.stale and not f.busy),  # no job may write what belongs to the old configuration
    (Step.PRETEXT, _wants_pretext),
    (Step.SPLIT, _wants_split),
    (Step.PLAN, _wants_plan),
    (Step.RETRAIN, _wants_retrain),
    (Step.RECORD, lambda f: f.tasks.unrecorded > 0),
    (Step.FINAL, lambda f: f.final_ordered),
    (Step.EXPORT, lambda f: f.unexported),
    # Deleting by task and writing final predictions for the same tasks do not go together. Nor does deleting while
    # losses are recorded: on SQLite, Label Studio may then wait 13 s for its lock, and the queue with it.
    (Step.CLEAN, lambda f: f.superseded > 0 and not f.running & {JobKind.FINAL, JobKind.RECORD}),
)
