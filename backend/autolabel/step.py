"""The autolabel job: predictions for all that nobody labels, under a version of their own.

The queue stays as it is: neither the project's version nor a prediction of it is touched.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isclose

import numpy as np

from backend.autolabel.preview import VERSION_PREFIX, autolabel_version
from backend.chunks import chunks
from backend.items.sizes import items_of
from backend.labeling.base import Item, Labeling
from backend.loop.heartbeat import Progress
from backend.project_files import Files
from backend.status.predictions import open_predictions
from backend.store import AutolabelOrderRow, ProjectStore
from backend.studio.predictions import DELETED, IMPORTED
from backend.studio.project import StudioProject
from backend.studio.types import Prediction
from model.problems.base import Prediction as Predicted

logger = logging.getLogger(__name__)

MANY = 500  # wrong predictions that are not deleted one by one any more


@dataclass(frozen=True)
class _Ordered:
    """The predictions that were ordered, with their scores, of n tasks."""

    tasks: dict[int, int]  # position in the lists below, by task id
    predictions: list[Predicted]
    scores: list[float]

    def prediction(self, task: int, version: str, labeling: Labeling, item: Item) -> Prediction:
        position = self.tasks[task]
        return Prediction(task, self.scores[position], version, labeling.result(self.predictions[position], item))


def autolabel(store: ProjectStore, studio: StudioProject, files: Files, labeling: Labeling, progress: Progress) -> None:
    """Make Label Studio's predictions of the version those that were ordered; a killed job is continued.

    Superseded final predictions go last: until then people have the old ones.
    """
    order = store.autolabel.get()
    if order is None or order.written_at is not None:
        return
    ordered = _read_order(store, files, labeling, order)
    if ordered is None:
        logger.warning(
            "the model of round %d is gone or predicts another kind of label; order predictions again", order.round
        )
        store.autolabel.drop()
        return
    version = autolabel_version(order.round)
    missing, wrong = _compare(studio, ordered, version)
    if len(wrong) > MANY:  # one by one would take hours, and have each of the tasks read again
        studio.predictions.delete_version(version, beat=lambda: progress(0.0))
        missing, wrong = list(ordered.tasks), []
    total = max(len(missing) + len(wrong), 1)
    for number, ids in enumerate(chunks(wrong, DELETED)):
        progress(number * DELETED / total)
        studio.predictions.delete(ids)
    share: Progress = lambda done: progress((len(wrong) + done) / total)  # noqa: E731
    studio.predictions.write(_drawn(store, files, labeling, ordered, version, missing, share))
    _drop_superseded(studio, version, progress)
    store.autolabel.written(order.ordered_at, len(ordered.tasks))
    logger.info("%d final predictions written as %s", len(ordered.tasks), version)


def _drawn(
    store: ProjectStore,
    files: Files,
    labeling: Labeling,
    ordered: _Ordered,
    version: str,
    tasks: Sequence[int],
    progress: Progress,
) -> Iterator[Prediction]:
    """Yield the predictions of these tasks one by one, as they are written: their regions may be large."""
    for first, part in enumerate(chunks(tasks, IMPORTED)):
        items = items_of(store, files, labeling, part)
        for position, task in enumerate(part):
            progress(first * IMPORTED + position)
            yield ordered.prediction(task, version, labeling, items.get(task, Item()))


def _read_order(store: ProjectStore, files: Files, labeling: Labeling, order: AutolabelOrderRow) -> _Ordered | None:
    """Return the ordered predictions; None if the model's outputs are gone, or it predicts another kind of label."""
    row = store.rounds.get(order.round)
    predictions = open_predictions(store, files, row) if row is not None else None
    if predictions is None or predictions.problem.name != labeling.problem:
        return None
    confidence = predictions.confidence(np.arange(predictions.size), order.temperature)
    chosen = np.flatnonzero(predictions.unlabeled & (confidence >= order.confidence))
    known = [
        (int(task), prediction, round(float(score), 6))
        for task, prediction, score in zip(
            predictions.task_id[chosen], predictions.predict(chosen), confidence[chosen], strict=True
        )
        if predictions.problem.fits(prediction, labeling.classes)  # its classes may have left the configuration
    ]
    return _Ordered(
        tasks={task: position for position, (task, _, _) in enumerate(known)},
        predictions=[prediction for _, prediction, _ in known],
        scores=[score for _, _, score in known],
    )


def _compare(studio: StudioProject, ordered: _Ordered, version: str) -> tuple[list[int], list[int]]:
    """Return the tasks whose prediction is missing in Label Studio, and the ids of predictions that are wrong."""
    stored, wrong = set[int](), list[int]()
    for prediction in studio.predictions.stored(version):
        position, score = ordered.tasks.get(prediction.task), prediction.score
        fits = position is not None and score is not None and isclose(score, ordered.scores[position], abs_tol=1e-6)
        if fits and prediction.task not in stored:
            stored.add(prediction.task)
        else:
            wrong.append(prediction.id)
    return [task for task in ordered.tasks if task not in stored], wrong


def _drop_superseded(studio: StudioProject, version: str, progress: Progress) -> None:
    for old in studio.predictions.versions():
        if old.startswith(VERSION_PREFIX) and old != version:
            studio.predictions.delete_version(old, beat=lambda: progress(1.0))
