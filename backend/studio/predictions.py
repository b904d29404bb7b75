"""Writing and deleting predictions without stopping annotators: what Label Studio makes slow, in small pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from backend.chunks import chunks
from backend.errors import StudioError, StudioMissing, StudioRefused, StudioUnreachable
from backend.studio import tasks
from backend.studio.session import SLOW_READ_S, StudioSession
from backend.studio.types import Prediction, StoredPrediction

IMPORTED = 2000
"""Predictions a request. Each request also recounts the whole project (seconds at 50,000 tasks), so few are better; but
5,000 in one keep annotators' saves waiting for 3 s."""

DELETED = 50
"""Predictions deleted in one transaction. Each takes Label Studio about 10 ms, and SQLite's other writers give up after
5 s: deleting 500 at once makes annotators' saves fail."""


def write(session: StudioSession, project: int, predictions: Sequence[Prediction]) -> list[int]:
    """Import predictions; return the tasks among them that are gone, which are left out.

    Raises:
        StudioUnreachable: no answer came; some may have been written (see `stored`).
        StudioError: Label Studio left some out.
    """
    gone: list[int] = []
    for part in chunks(predictions, IMPORTED):
        try:
            _import(session, project, part)
        except (StudioUnreachable, StudioRefused, StudioMissing):
            raise
        except StudioError:
            # It takes all or none: a single task that somebody has deleted meanwhile is enough for none.
            there = tasks.existing(session, project, [one.task for one in part])
            left = [one for one in part if one.task in there]
            if len(left) == len(part):
                raise
            _import(session, project, left)
            gone += [one.task for one in part if one.task not in there]
    return gone


def stored(session: StudioSession, project: int, version: str) -> list[StoredPrediction]:
    """List the predictions of a version, doubles included."""
    return [one for found, _ in tasks.predictions(session, project, version) for one in found]


def delete_version(
    session: StudioSession,
    project: int,
    version: str,
    most: int | None = None,
    beat: Callable[[], None] = lambda: None,
) -> bool:
    """Delete a version's predictions, a few at a time, so that annotators can save in between.

    At most `most` of them, if that is given; return whether all are gone. `beat` is called before each few, and may
    raise to stop.
    """
    found = list(tasks.predictions(session, project, version))
    total = sum(len(mine) for mine, _ in found)
    if total > DELETED:
        delete(session, [one.id for mine, mixed in found if mixed for one in mine][:most])
        alone = [mine[0].task for mine, mixed in found if not mixed][:most]
        for part in chunks(alone, DELETED):
            beat()
            _delete_where_alone(session, project, version, part)
        if most is not None and total > most:
            return False
    session.call(
        "DELETE", f"/api/projects/{project}/model-versions/", body={"model_version": version}, read_s=SLOW_READ_S
    )
    return True


def _delete_where_alone(session: StudioSession, project: int, version: str, task_ids: Sequence[int]) -> None:
    """Delete all predictions of these tasks, or single ones where another version has been written meanwhile."""
    alone = []
    for mine, mixed in tasks.predictions_of(session, project, version, task_ids):
        if mixed:
            delete(session, [one.id for one in mine])
        else:
            alone.append(mine[0].task)
    action(session, project, "delete_tasks_predictions", alone)


def delete(session: StudioSession, prediction_ids: Iterable[int]) -> None:
    """Delete single predictions. Slower than by version, and moves their tasks' `updated_at`."""
    for one in prediction_ids:
        try:
            session.call("DELETE", f"/api/predictions/{one}/")
        except StudioMissing:
            continue


def action(session: StudioSession, project: int, name: str, task_ids: Sequence[int], **fields: str) -> None:
    """Run a Data Manager action on these tasks."""
    if not task_ids:
        return  # Label Studio reads an empty selection as every task
    session.call(
        "POST",
        "/api/dm/actions/",
        params={"id": name, "project": project},
        body={"selectedItems": {"all": False, "included": list(task_ids)}, "project": str(project), **fields},
        read_s=SLOW_READ_S,
    )


def _import(session: StudioSession, project: int, part: Sequence[Prediction]) -> None:
    if not part:
        return
    answer = session.call(
        "POST",
        f"/api/projects/{project}/import/predictions",
        body=[
            {
                "task": one.task,
                "score": one.score,
                "model_version": one.model_version,
                "result": [dict(region) for region in one.result],
            }
            for one in part
        ],
        repeatable=False,
        read_s=SLOW_READ_S,
    )
    if answer["created"] != len(part):
        raise StudioError(
            f"Label Studio left out {len(part) - answer['created']} of {len(part)} predictions: "
            "do their classes still stand in the labeling interface?"
        )
