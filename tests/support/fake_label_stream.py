"""The label stream of a fake Label Studio: which task a user gets next."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from random import Random

from support.fake_studio_state import LOCK, SEQUENTIAL, UNCERTAINTY, Project, Task


def next_task(project: Project, user: str, now: datetime, random: Random) -> Task | None:
    """Return the user's next task and lock it; None where the stream has no more.

    A task that the user has open comes first. With uncertainty sampling those follow that have a prediction of the
    project's version, the lowest score first; if no task has one, any. Where the version is null (it is after its
    predictions were deleted), those without predictions come in their order. Of several users each gets another task.
    """
    overlap = project.maximum_annotations
    left = [task for task in project.tasks.values() if not task.is_labeled(overlap) and not task.is_done_by(user)]
    task = next((task for task in left if task.locks.get(user, now) > now), None)
    if task is None:
        candidates = _candidates(project, left, random)
        task = next((task for task in candidates if not task.is_locked_for(user, now, overlap)), None)
    if task is not None:
        task.locks[user] = now + LOCK
    return task


def _candidates(project: Project, left: Sequence[Task], random: Random) -> Iterable[Task]:
    if project.sampling == SEQUENTIAL:
        return left
    if project.sampling == UNCERTAINTY and project.model_version is None:
        return [task for task in left if not task.predictions] or random.sample(left, len(left))
    if project.sampling == UNCERTAINTY:
        asked = [task for task in left if _score(task, project.model_version) is not None]
        if asked:
            return sorted(asked, key=lambda task: _score(task, project.model_version) or 0.0)
    return random.sample(left, len(left))


def _score(task: Task, version: str | None) -> float | None:
    """Return the lowest score that a task has under a version; a null score comes before all others."""
    scores = [
        float("-inf") if one.score is None else one.score for one in task.predictions if one.model_version == version
    ]
    return min(scores, default=None)
