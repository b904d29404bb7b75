"""Writing and deleting predictions without stopping annotators: what Label Studio makes slow, in small pieces."""

import json
from collections.abc import Callable, Iterable, Sequence

from backend.chunks import chunks, weighed_chunks
from backend.errors import StudioError, StudioMissing, StudioRefused, StudioUnreachable
from backend.studio.session import SLOW_READ_S, StudioSession
from backend.studio.tasks import ProjectTasks
from backend.studio.types import Prediction, StoredPrediction

# Predictions a request. Each request also recounts the whole project (seconds at 50,000 tasks), so few are better; but
# 5,000 in one keep annotators' saves waiting for 3 s.
IMPORTED = 2000
# Bytes of their regions a request, about: those of a mask may have 100 kB.
IMPORTED_BYTES = 4_000_000

# Predictions deleted in one transaction. Each takes Label Studio about 10 ms, and SQLite's other writers give up after
# 5 s: deleting 500 at once makes annotators' saves fail.
DELETED = 50


class ProjectPredictions:
    """The predictions of one project."""

    def __init__(self, session: StudioSession, project_id: int, tasks: ProjectTasks) -> None:
        """Take Label Studio's id of the project, and its tasks."""
        self._session, self._project_id, self._tasks = session, project_id, tasks

    def write(self, predictions: Iterable[Prediction]) -> list[int]:
        """Import predictions; return the tasks among them that are gone, which are left out.

        Only those of one request are in memory.

        Raises:
            StudioUnreachable: no answer came; some may have been written (see ``stored``).
            StudioError: Label Studio left some out.
        """
        gone: list[int] = []
        for part in weighed_chunks(predictions, IMPORTED, IMPORTED_BYTES, _weight):
            try:
                self._import(part)
            except (StudioUnreachable, StudioRefused, StudioMissing):
                raise
            except StudioError:
                # It takes all or none: a single task that somebody has deleted meanwhile is enough for none.
                there = self._tasks.existing([one.task for one in part])
                left = [one for one in part if one.task in there]
                if len(left) == len(part):
                    raise
                self._import(left)
                gone += [one.task for one in part if one.task not in there]
        return gone

    def versions(self) -> dict[str, int]:
        """Count the predictions of each version."""
        counts = self._session.get(f"/api/projects/{self._project_id}/model-versions/")
        return {version: count for version, count in counts.items() if count}

    def stored(self, version: str) -> list[StoredPrediction]:
        """List the predictions of a version, doubles included."""
        return [one for found, _ in self._tasks.predictions(version) for one in found]

    def delete_version(
        self,
        version: str,
        most: int | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> bool:
        """Delete a version's predictions, a few at a time, so that annotators can save in between.

        At most ``most`` of them, if that is given; return whether all are gone. ``beat`` is called before each few, and
        may raise to stop.
        """
        found = list(self._tasks.predictions(version))
        total = sum(len(mine) for mine, _ in found)
        if total > DELETED:
            self.delete([one.id for mine, mixed in found if mixed for one in mine][:most])
            alone = [mine[0].task for mine, mixed in found if not mixed][:most]
            for part in chunks(alone, DELETED):
                beat()
                self._delete_where_alone(version, part)
            if most is not None and total > most:
                return False
        self._session.call(
            "DELETE",
            f"/api/projects/{self._project_id}/model-versions/",
            body={"model_version": version},
            read_s=SLOW_READ_S,
        )
        return True

    def _delete_where_alone(self, version: str, task_ids: Sequence[int]) -> None:
        """Delete all predictions of these tasks, or single ones where another version has been written meanwhile."""
        alone = []
        for mine, mixed in self._tasks.predictions_of(version, task_ids):
            if mixed:
                self.delete([one.id for one in mine])
            else:
                alone.append(mine[0].task)
        self._tasks.action("delete_tasks_predictions", alone)

    def delete(self, prediction_ids: Iterable[int]) -> None:
        """Delete single predictions. Slower than by version, and moves their tasks' ``updated_at``."""
        for one in prediction_ids:
            try:
                self._session.call("DELETE", f"/api/predictions/{one}/")
            except StudioMissing:
                continue

    def _import(self, part: Sequence[Prediction]) -> None:
        if not part:
            return
        answer = self._session.call(
            "POST",
            f"/api/projects/{self._project_id}/import/predictions",
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


def _weight(prediction: Prediction) -> int:
    """Return about how many bytes a prediction's regions have."""
    return len(json.dumps([dict(region) for region in prediction.result], separators=(",", ":")))
