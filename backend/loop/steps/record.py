"""The record job: each task's loss and batch into its data in Label Studio."""

from collections import defaultdict
from collections.abc import Mapping, Sized
from math import copysign, floor, log10

from backend.loop.context import Work
from backend.loop.heartbeat import Progress

LOSS_FIELD, BATCH_FIELD = "pretext_loss", "pretext_batch"


def record(work: Work, progress: Progress) -> None:
    """Write batches, then losses, one call per value; each call is noted, so that a killed job goes on from there."""
    tasks, studio, project = work.store.tasks, work.studio, work.project.studio_id
    by_batch: dict[int, list[int]] = defaultdict(list)
    by_loss: dict[float, dict[int, float]] = defaultdict(dict)
    for task_id, loss, batch, recorded_loss, recorded_batch in tasks.unrecorded(work.key):
        if recorded_batch != batch:
            by_batch[batch].append(task_id)
        if recorded_loss != loss:
            by_loss[rounded(loss)][task_id] = loss
    total, done = _count(by_batch) + _count(by_loss), 0
    for batch, ids in sorted(by_batch.items()):
        studio.set_field(project, ids, BATCH_FIELD, batch)
        tasks.batch_recorded(work.key, ids, batch)
        done += len(ids)
        progress(done / total)
    for loss, losses in by_loss.items():
        studio.set_field(project, list(losses), LOSS_FIELD, loss)
        tasks.losses_recorded(work.key, losses)
        done += len(losses)
        progress(done / total)


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


def _count(groups: Mapping[int, Sized] | Mapping[float, Sized]) -> int:
    return sum(len(tasks) for tasks in groups.values())
