"""The record job: each task's loss and batch into its data in Label Studio."""

import time
from collections import defaultdict
from math import copysign, floor, log10

from backend.loop.heartbeat import Progress
from backend.queueing.queues import TimeSlice
from backend.store import ProjectStore
from backend.store.tasks import Unrecorded
from backend.studio.project import StudioProject

LOSS_FIELD, BATCH_FIELD = "pretext_loss", "pretext_batch"
AT_ONCE = 50_000  # tasks: fewer would share a value, and its call, with too few others
PAUSE_S = 0.1  # between two calls while somebody annotates: a save then takes a tenth longer, else twice as long


def record(store: ProjectStore, studio: StudioProject, time_slice: TimeSlice, progress: Progress) -> None:
    """Write batches, then losses, one call per value; each call is noted, so that the next job goes on from there.

    It goes through the pool from the highest losses down, some at a time, so that neither its memory nor what it reads
    before its first call grows with the pool. It makes way: to other projects after some seconds, and to annotators,
    whose saves wait for each of our calls.
    """
    while part := store.tasks.unrecorded(AT_ONCE):
        if not _record(store, studio, part, time_slice, progress):
            return


def _record(
    store: ProjectStore, studio: StudioProject, part: list[Unrecorded], time_slice: TimeSlice, progress: Progress
) -> bool:
    """Write a part of the pool; return False where the time slice ends before all of it is written."""
    tasks = store.tasks
    by_batch: dict[int, list[int]] = defaultdict(list)
    by_loss: dict[float, dict[int, float]] = defaultdict(dict)
    for task_id, loss, batch, recorded_loss, recorded_batch in part:
        if recorded_batch != batch:
            by_batch[batch].append(task_id)
        if recorded_loss != loss:
            by_loss[rounded(loss)][task_id] = loss
    counts = tasks.counts(0)
    values = 2 * max(counts.ok, 1)  # of all tasks, those that were written before included
    left = sum(map(len, by_batch.values())) + sum(map(len, by_loss.values()))
    after = 2 * (counts.unrecorded - len(part))
    for name, value, ids in [
        *((BATCH_FIELD, batch, ids) for batch, ids in sorted(by_batch.items())),
        *((LOSS_FIELD, loss, list(losses)) for loss, losses in by_loss.items()),
    ]:
        studio.tasks.set_field(ids, name, value)
        if name == BATCH_FIELD:
            tasks.batch_recorded(ids, int(value))
        else:
            tasks.losses_recorded(by_loss[value])
        left -= len(ids)
        progress(min(max(1 - (left + after) / values, 0.0), 1.0))
        if time_slice.expired():
            return False
        if tasks.counts(time.time()).recent:
            time.sleep(PAUSE_S)
    return True


def rounded(loss: float) -> float:
    """Round to three significant digits, the last in steps of 1, 2 or 5: half a percent at most, for every loss.

    Three full digits err by half a percent as well, where they begin with 1, but have 900 values a decade instead of
    350: equal values share one call to Label Studio, and a call costs the same for one task as for twenty.
    """
    if loss == 0:
        return 0.0
    exponent = floor(log10(abs(loss))) - 2
    digits = abs(loss) / 10.0**exponent  # 100 to 1000
    step = 1 if digits < 200 else 2 if digits < 500 else 5
    return float(f"{copysign(round(digits / step) * step, loss)}e{exponent}")
