"""The record job: each task's loss and batch into its data in Label Studio."""

from collections import defaultdict
from collections.abc import Mapping, Sized

from backend.loop.context import Work
from backend.loop.heartbeat import Progress

LOSS_FIELD, BATCH_FIELD = "pretext_loss", "pretext_batch"
DIGITS = 3  # significant digits of a recorded loss: equal values share one call


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
    """Round to three significant digits."""
    return float(f"{loss:.{DIGITS}g}")


def _count(groups: Mapping[int, Sized] | Mapping[float, Sized]) -> int:
    return sum(len(tasks) for tasks in groups.values())
