"""The decision table, row by row."""

from dataclasses import replace

import pytest

from backend.loop.decide import (
    INLINE_IDS,
    INLINE_SPLIT,
    JOB_OF_STEP,
    Stage,
    Step,
    is_missing,
    low_water,
    next_step,
    stage,
    unwanted_jobs,
)
from backend.loop.facts import Facts, JobKind, StaleReason
from backend.loop.step_table import JOBS, STEPS
from backend.store.rounds import AskCounts
from backend.store.task_counts import TaskCounts

POOL = TaskCounts(tasks=100, ok=100, available=100, askable=100)
LIVE = Facts(
    tasks=replace(POOL, available=80, askable=80, answered=20, labeled=20, trainable=18),
    asks=AskCounts(waiting=40, answered=10, reserve=30),
    asked=50,
    collecting=True,
    served=True,
    live_round=1,
    pretext_current=True,
    split_images=100,
    split_current=True,
    extendable=True,
    askable=80,
)
UNSCORED = replace(POOL, unscored=100)
NEW = Facts(own_network=False, waits_for_losses=False, tasks=UNSCORED, features_current=True, askable=100)  # an encoder


def live(**asks: int) -> Facts:
    return replace(LIVE, asks=replace(LIVE.asks, **asks))


ROWS = {
    "nothing there": (Facts(), Step.WAIT),
    "changes unread": (Facts(unread=True), Step.SYNC),
    "images to fetch": (Facts(tasks=TaskCounts(tasks=5, new=5)), Step.SYNC),
    "all images broken": (Facts(tasks=TaskCounts(tasks=5, broken=5)), Step.WAIT),
    "one image is too few": (Facts(tasks=TaskCounts(tasks=1, ok=1, unscored=1, available=1)), Step.WAIT),
    "images without a model": (Facts(tasks=replace(POOL, unscored=100)), Step.PRETEXT),
    "images still coming in": (Facts(tasks=replace(POOL, new=3, unscored=100)), Step.SYNC),
    "losses without batches": (Facts(tasks=replace(POOL, unsplit=100), pretext_current=True), Step.SPLIT),
    "batches of a split that was killed": (Facts(tasks=POOL, pretext_current=True, split_images=100), Step.SPLIT),
    "batches without a round": (
        Facts(tasks=POOL, askable=100, pretext_current=True, split_images=100, split_current=True),
        Step.PLAN,
    ),
    "features without a round": (NEW, Step.PLAN),
    "features of a part, while images come in": (replace(NEW, tasks=replace(UNSCORED, new=50)), Step.SYNC),
    "features of a part, while images come in and a job fetches them": (
        replace(NEW, tasks=replace(UNSCORED, new=50), running=frozenset({JobKind.SYNC})),
        Step.WAIT,
    ),
    "features of a part, after waiting for the others for long enough": (
        replace(NEW, tasks=replace(UNSCORED, new=50), patient=False, running=frozenset({JobKind.SYNC})),
        Step.PLAN,
    ),
    "features of one image, after waiting for others": (
        replace(NEW, tasks=TaskCounts(tasks=9, ok=1, new=8, available=1), patient=False, running=frozenset(JobKind)),
        Step.WAIT,
    ),
    "features and a first query by losses, no losses": (replace(NEW, waits_for_losses=True), Step.PRETEXT),
    "features and a first query by losses, losses on their way": (
        replace(NEW, waits_for_losses=True, pretext_current=True, running=frozenset({JobKind.PRETEXT})),
        Step.WAIT,
    ),
    "features and a first query by losses, no batches": (
        replace(NEW, waits_for_losses=True, pretext_current=True, tasks=replace(POOL, unsplit=100)),
        Step.SPLIT,
    ),
    "features, a first query by losses, and batches": (
        replace(NEW, waits_for_losses=True, pretext_current=True, tasks=POOL, split_images=100, split_current=True),
        Step.PLAN,
    ),
    "features, a first query by losses, and a later round": (
        replace(NEW, waits_for_losses=True, live_round=0, served=True, running=frozenset({JobKind.PRETEXT})),
        Step.PLAN,
    ),
    "images without features": (replace(NEW, features_current=False), Step.EMBED),
    "images without features, more to come": (
        replace(NEW, features_current=False, tasks=replace(UNSCORED, new=3)),
        Step.SYNC,
    ),
    "features and a round, no losses": (replace(NEW, live_round=0, served=True, collecting=True), Step.PRETEXT),
    "features of images that were all answered before, no losses": (
        replace(NEW, askable=0, tasks=replace(UNSCORED, available=0, answered=100)),
        Step.PRETEXT,
    ),
    "features and a planned round, no losses": (
        replace(NEW, planned=True, asked=10, asks=AskCounts(waiting=10)),
        Step.SWITCH,
    ),
    "features, answers and no losses": (
        replace(
            NEW,
            live_round=0,
            collecting=True,
            served=True,
            asked=10,
            asks=AskCounts(answered=10, waiting=30),
            running=frozenset({JobKind.PRETEXT}),
        ),
        Step.RETRAIN,
    ),
    "features and a model, no losses": (
        replace(NEW, live_round=0, served=True, asks=AskCounts(waiting=30), running=frozenset({JobKind.PRETEXT})),
        Step.PLAN,
    ),
    "features of a later round lost": (
        replace(LIVE, own_network=False, features_current=False, collecting=False),
        Step.EMBED,
    ),
    "activations missing before the first queue": (replace(NEW, activations_current=False), Step.PLAN),
    "activations missing behind a queue": (
        replace(LIVE, own_network=False, features_current=True, activations_current=False),
        Step.EMBED,
    ),
    "activations missing, and a round that was answered": (
        replace(
            live(waiting=40, answered=50, reserve=30),
            own_network=False,
            features_current=True,
            activations_current=False,
        ),
        Step.RETRAIN,
    ),
    "round in the store only": (Facts(tasks=POOL, planned=True, asked=10, asks=AskCounts(unposted=10)), Step.POST),
    "round half sent": (Facts(tasks=POOL, planned=True, asked=10, asks=AskCounts(unposted=4, waiting=6)), Step.POST),
    "round sent, not served": (Facts(tasks=POOL, planned=True, asked=10, asks=AskCounts(waiting=10)), Step.SWITCH),
    "every task of a served round deleted": (replace(live(waiting=0, answered=0), emptied=True), Step.DROP),
    "every task of a served round deleted while a model trains": (
        replace(live(waiting=0, answered=0, reserve=9), emptied=True, running=frozenset({JobKind.RETRAIN})),
        Step.TOP_UP,
    ),
    "every task of all rounds deleted, and others there": (replace(LIVE, emptied=True, outlived=True), Step.FORGET),
    "every task of all trained rounds deleted, while a model is compared": (
        replace(LIVE, collecting=False, outlived=True, running=frozenset({JobKind.REFINE})),
        Step.WAIT,
    ),
    "a pool that is whole for the first time": (replace(LIVE, unmeasured=True), Step.NOTE_POOL),
    "a pool that is not whole yet": (
        replace(LIVE, unmeasured=True, tasks=replace(LIVE.tasks, new=3), running=frozenset({JobKind.SYNC})),
        Step.WAIT,
    ),
    "a pool with many later images": (replace(LIVE, many_later=True), Step.SYNC),
    "another pool, before its images are fetched": (
        replace(LIVE, stale=StaleReason.OTHER_SIZES, tasks=replace(LIVE.tasks, new=50)),
        Step.RESTART,
    ),
    "another pool, while a job may write results of the old one": (
        replace(LIVE, stale=StaleReason.OTHER_SIZES, many_later=True, running=frozenset({JobKind.PRETEXT})),
        Step.WAIT,
    ),
    "labeling": (LIVE, Step.WAIT),
    "version changed by hand": (replace(LIVE, version_right=False), Step.SWITCH),
    "sampling changed by hand": (replace(LIVE, sampling_right=False), Step.SWITCH),
    "old predictions left": (replace(LIVE, superseded=1), Step.CLEAN),
    "queue at its low-water mark": (live(waiting=12, answered=38), Step.TOP_UP),
    "queue above its low-water mark": (live(waiting=13, answered=37), Step.WAIT),
    "reserve used up": (live(waiting=5, answered=45, reserve=0), Step.EXTEND),
    "reserve and pool used up": (replace(live(waiting=5, answered=45, reserve=0), extendable=False), Step.WAIT),
    "as many answered as asked": (live(waiting=20, answered=50), Step.RETRAIN),
    "reserve answered instead of a locked task": (live(waiting=20, answered=51), Step.RETRAIN),
    "one answer missing": (live(waiting=20, answered=49), Step.WAIT),
    "pool exhausted before the round was": (
        replace(live(waiting=0, answered=30, reserve=0), tasks=replace(LIVE.tasks, available=0), extendable=False),
        Step.RETRAIN,
    ),
    "images fetched again in a new size": (
        replace(
            live(waiting=0, answered=3, reserve=0),
            tasks=replace(LIVE.tasks, ok=0, available=0, askable=0, new=100),
            extendable=False,
            pretext_current=False,
            running=frozenset({JobKind.SYNC}),
        ),
        Step.WAIT,
    ),
    "old predictions left while final ones are written": (
        replace(LIVE, superseded=1, autolabel_ordered=True, running=frozenset({JobKind.AUTOLABEL})),
        Step.WAIT,
    ),
    "old predictions left while losses are recorded": (
        replace(LIVE, superseded=1, tasks=replace(LIVE.tasks, unrecorded=5), running=frozenset({JobKind.RECORD})),
        Step.WAIT,
    ),
    "old predictions left while recording rests after a failure": (
        replace(LIVE, superseded=1, tasks=replace(LIVE.tasks, unrecorded=5), resting=frozenset({JobKind.RECORD})),
        Step.CLEAN,
    ),
    "queue emptied by deletions": (
        replace(live(waiting=0, answered=0, reserve=0), tasks=replace(LIVE.tasks, available=0), extendable=False),
        Step.WAIT,
    ),
    "training asked for early": (replace(LIVE, training_requested=True), Step.RETRAIN),
    "training asked for without labels": (
        replace(LIVE, training_requested=True, tasks=replace(LIVE.tasks, trainable=0)),
        Step.WAIT,
    ),
    "losses unknown to Label Studio": (replace(LIVE, tasks=replace(LIVE.tasks, unrecorded=7)), Step.RECORD),
    "late images without a loss": (replace(LIVE, tasks=replace(LIVE.tasks, unscored=7)), Step.PRETEXT),
    "late images without a batch": (replace(LIVE, tasks=replace(LIVE.tasks, unsplit=7)), Step.SPLIT),
    "configuration changed": (replace(LIVE, stale=StaleReason.PRETEXT, pretext_current=False), Step.RESTART),
    "next round wanted, pool asked out": (
        Facts(
            tasks=replace(POOL, available=0, askable=0, answered=100),
            pretext_current=True,
            split_images=100,
            split_current=True,
        ),
        Step.WAIT,
    ),
    "reserve needed between two rounds": (replace(live(waiting=5, answered=50), collecting=False), Step.TOP_UP),
    "version changed between two rounds": (replace(LIVE, collecting=False, version_right=False), Step.SWITCH),
    "every task of a planned round deleted": (Facts(tasks=POOL, planned=True, asked=10), Step.DROP),
    "training asked for before any answer": (
        replace(live(waiting=50, answered=0), training_requested=True),
        Step.IGNORE_REQUEST,
    ),
    "predictions for the rest ordered": (replace(LIVE, autolabel_ordered=True), Step.AUTOLABEL),
    "learners not compared": (replace(LIVE, unrefined=True), Step.REFINE),
    "learners not compared, and activations on their way": (
        replace(LIVE, unrefined=True, activations_current=False, running=frozenset({JobKind.EMBED})),
        Step.WAIT,
    ),
    "learners not compared, and activations that cannot be had": (
        replace(LIVE, unrefined=True, activations_current=False, resting=frozenset({JobKind.EMBED})),
        Step.REFINE,
    ),
    "newest model not exported": (replace(LIVE, unexported=True), Step.EXPORT),
    "images that look alike not counted": (replace(LIVE, twins_uncounted=True), Step.TWINS),
    "predictions of unknown fate": (live(doubtful=3), Step.POST),
    "connection not looked at for a while": (replace(LIVE, maintenance_due=True, unread=True), Step.MAINTAIN),
    "tasks deleted": (replace(LIVE, count_differs=True, studio_tasks=99), Step.RECONCILE),
    "tasks deleted from a large project": (
        replace(LIVE, count_differs=True, studio_tasks=INLINE_IDS + 1),
        Step.SYNC,
    ),
    "image bank lost": (replace(LIVE, bank_lost=True, stale=StaleReason.PRETEXT), Step.REFETCH),
    "image bank lost while a job reads it": (
        replace(LIVE, bank_lost=True, running=frozenset({JobKind.RETRAIN})),
        Step.WAIT,
    ),
    "batches of a large pool missing": (
        Facts(tasks=replace(POOL, unsplit=100), pretext_current=True, to_split=INLINE_SPLIT + 1),
        Step.SPLIT_LARGE,
    ),
    "batches of a small pool missing while a job splits it": (
        Facts(tasks=replace(POOL, unsplit=100), pretext_current=True, running=frozenset({JobKind.SPLIT})),
        Step.WAIT,
    ),
    "losses of batches that are not whole": (
        replace(
            LIVE,
            tasks=replace(LIVE.tasks, unrecorded=5),
            split_current=False,
            stale=StaleReason.SPLIT,
            running=frozenset({JobKind.EXPORT}),
        ),
        Step.WAIT,
    ),
}


@pytest.mark.parametrize(("facts", "step"), ROWS.values(), ids=ROWS.keys())
def test_next_step_of_facts_is_the_first_missing(facts: Facts, step: Step) -> None:
    assert next_step(facts) == step


@pytest.mark.parametrize("state", ["running", "resting"])
@pytest.mark.parametrize("step", JOB_OF_STEP)
def test_next_step_passes_over_busy_jobs(step: Step, state: str) -> None:
    facts = next(facts for facts, wanted in ROWS.values() if wanted == step)
    assert next_step(replace(facts, **{state: frozenset(JobKind)})) == Step.WAIT


def test_next_step_passes_over_what_had_no_effect() -> None:
    facts = replace(live(waiting=5, answered=50, reserve=0), tasks=replace(LIVE.tasks, unscored=20))
    assert next_step(facts) == Step.EXTEND
    assert next_step(facts, {Step.EXTEND}) == Step.PRETEXT
    assert next_step(facts, {Step.EXTEND, Step.PRETEXT}) == Step.RETRAIN


def test_a_job_is_wanted_while_its_step_is_missing() -> None:
    assert JobKind.SYNC not in unwanted_jobs(replace(LIVE, unread=True))
    assert unwanted_jobs(LIVE) >= {JobKind.SYNC, JobKind.PRETEXT, JobKind.RETRAIN}


def test_next_step_keeps_the_queue_filled_while_training() -> None:
    facts = replace(live(waiting=8, answered=55), running=frozenset({JobKind.RETRAIN}))
    assert next_step(facts) == Step.TOP_UP


def test_next_step_asks_before_it_records() -> None:
    facts = Facts(
        tasks=replace(POOL, unrecorded=100), askable=100, pretext_current=True, split_images=100, split_current=True
    )
    assert next_step(facts) == Step.PLAN


def test_next_step_does_not_restart_under_a_running_training() -> None:
    facts = replace(
        LIVE, stale=StaleReason.PRETEXT, pretext_current=False, running=frozenset({JobKind.RETRAIN, JobKind.PRETEXT})
    )
    assert next_step(facts) == Step.WAIT


def test_low_water_is_a_quarter_but_no_less_than_ten() -> None:
    assert [low_water(asked, recent=0) for asked in (4, 40, 44, 1000)] == [10, 10, 11, 250]


def test_low_water_rises_with_the_pace_of_the_annotators() -> None:
    assert [low_water(40, recent) for recent in (3, 4, 60)] == [10, 12, 180]
    quick = replace(live(waiting=30, answered=20), tasks=replace(LIVE.tasks, recent=10))
    assert next_step(quick) == Step.TOP_UP


def running(*kinds: JobKind) -> frozenset[JobKind]:
    return frozenset(kinds)


FIRST = replace(LIVE, live_round=0)
STAGES = {
    "nothing connected": (Facts(), Stage.SYNCING),
    "images to fetch": (Facts(tasks=TaskCounts(tasks=5, new=5)), Stage.SYNCING),
    "images being fetched": (Facts(tasks=TaskCounts(tasks=5, ok=5), running=running(JobKind.SYNC)), Stage.SYNCING),
    "images without a model": (Facts(tasks=replace(POOL, unscored=100)), Stage.PRETEXT),
    "pretext training beside new images": (
        Facts(tasks=replace(POOL, new=3, unscored=100), running=running(JobKind.PRETEXT)),
        Stage.PRETEXT,
    ),
    "first round in the store only": (
        Facts(
            tasks=POOL,
            planned=True,
            asked=10,
            asks=AskCounts(unposted=10),
            pretext_current=True,
            split_current=True,
            split_images=100,
        ),
        Stage.PRETEXT,
    ),
    "images being embedded": (replace(NEW, features_current=False, running=running(JobKind.EMBED)), Stage.SYNCING),
    "features without a round": (NEW, Stage.PRETEXT),
    "losses on their way behind the first round": (
        replace(FIRST, own_network=False, features_current=True, running=running(JobKind.PRETEXT)),
        Stage.LABELING,
    ),
    "first losses being recorded": (replace(FIRST, running=running(JobKind.RECORD)), Stage.RECORDING),
    "first losses not recorded": (replace(FIRST, tasks=replace(FIRST.tasks, unrecorded=3)), Stage.RECORDING),
    "later losses not recorded": (replace(LIVE, tasks=replace(LIVE.tasks, unrecorded=3)), Stage.LABELING),
    "labeling": (LIVE, Stage.LABELING),
    "labeling while new images come": (replace(LIVE, tasks=replace(LIVE.tasks, new=9)), Stage.LABELING),
    "training": (replace(LIVE, running=running(JobKind.RETRAIN)), Stage.TRAINING),
    "round complete, training not begun": (live(waiting=20, answered=50), Stage.TRAINING),
    "next round in the store only": (
        replace(LIVE, collecting=False, served=False, planned=True, asks=AskCounts(unposted=10)),
        Stage.LABELING,
    ),
    "all batches asked": (replace(LIVE, finished=True), Stage.FINISHED),
    "training after the last batch": (replace(LIVE, finished=True, running=running(JobKind.RETRAIN)), Stage.TRAINING),
}


@pytest.mark.parametrize(("facts", "expected"), STAGES.values(), ids=STAGES.keys())
def test_stage_is_that_of_the_work_under_way_or_missing(facts: Facts, expected: Stage) -> None:
    assert stage(facts) == expected


def test_every_step_of_the_table_can_be_taken() -> None:
    assert {*STEPS} | {*JOB_OF_STEP} == {*Step} - {Step.WAIT}
    assert {*JOBS} == {*JOB_OF_STEP.values()} == {*JobKind}
    assert not {*STEPS} & {*JOB_OF_STEP}


def test_a_step_may_be_missing_whatever_else_is() -> None:
    assert is_missing(Step.RECORD, replace(LIVE, unread=True, tasks=replace(LIVE.tasks, unrecorded=5)))
    assert not is_missing(Step.RECORD, LIVE)


def test_learners_are_compared_behind_a_training() -> None:
    assert is_missing(Step.REFINE, replace(LIVE, unrefined=True))
    assert not is_missing(Step.REFINE, replace(live(waiting=5, answered=50, reserve=0), unrefined=True))
