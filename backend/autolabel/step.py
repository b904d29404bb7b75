"""The final job: predictions for all that nobody labels, under a version of their own.

The queue stays what it is: neither the project's version nor a prediction of it is touched.
"""

import logging
from dataclasses import dataclass
from math import isclose

import numpy as np

from backend.autolabel.preview import FINAL, autolabel_version, open_rest
from backend.chunks import chunks
from backend.labeling.choices import LabelSpec, prediction_result
from backend.loop.context import Work
from backend.loop.heartbeat import Progress
from backend.store import AutolabelOrderRow
from backend.studio.predictions import DELETED, IMPORTED
from backend.studio.types import Prediction

logger = logging.getLogger(__name__)

MANY = 500  # wrong predictions that are not deleted one by one any more


@dataclass(frozen=True)
class _Wanted:
    """What was ordered: images (n,) by pool index, their tasks, classes and scores."""

    tasks: dict[int, int]  # place in the arrays below, by task id
    labels: list[str]
    scores: list[float]

    def prediction(self, task: int, version: str, spec: LabelSpec) -> Prediction:
        place = self.tasks[task]
        return Prediction(task, self.scores[place], version, prediction_result(self.labels[place], spec))


def final(work: Work, progress: Progress) -> None:
    """Make Label Studio's predictions of the version those that were ordered; a killed job goes on from what is there.

    Superseded final predictions go last: until then people have the old ones.
    """
    order = work.project_store.autolabel.get()
    if order is None or order.written_at is not None:
        return
    wanted = _wanted(work, order)
    if wanted is None:
        logger.warning("the model of round %d is gone; order its predictions again", order.round)
        work.project_store.autolabel.drop()
        return
    version = autolabel_version(order.round)
    missing, wrong = _compare(work, wanted, version)
    if len(wrong) > MANY:  # one by one would take hours, and have each of the tasks read again
        work.studio.predictions.delete_version(version, beat=lambda: progress(0.0))
        missing, wrong = list(wanted.tasks), []
    total = max(len(missing) + len(wrong), 1)
    for number, ids in enumerate(chunks(wrong, DELETED)):
        progress(number * DELETED / total)
        work.studio.predictions.delete(ids)
    for number, tasks in enumerate(chunks(missing, IMPORTED)):
        progress((len(wrong) + number * IMPORTED) / total)
        part = [wanted.prediction(task, version, work.spec) for task in tasks]
        work.studio.predictions.write(part)
    _drop_superseded(work, version, progress)
    work.project_store.autolabel.written(order.ordered_at, len(wanted.tasks))
    logger.info("%d final predictions written as %s", len(wanted.tasks), version)


def _wanted(work: Work, order: AutolabelOrderRow) -> _Wanted | None:
    """Give the ordered predictions; None if the model's posteriors are not there any more."""
    row = work.project_store.rounds.get(order.round)
    rest = open_rest(work.store, work.context.settings.data_dir, work.project, row) if row is not None else None
    if rest is None:
        return None
    best, confidence = rest.predictions(order.temperature)
    usable = np.array([name in work.spec.classes for name in best], np.bool_)
    chosen = np.flatnonzero(rest.unlabeled & usable & (confidence >= order.confidence))
    return _Wanted(
        tasks={int(task): place for place, task in enumerate(rest.task_id[chosen])},
        labels=[best[index] for index in chosen],
        scores=[round(float(value), 6) for value in confidence[chosen]],
    )


def _compare(work: Work, wanted: _Wanted, version: str) -> tuple[list[int], list[int]]:
    """Give the tasks whose prediction is missing in Label Studio, and the predictions there that are wrong."""
    there, wrong = set[int](), list[int]()
    for one in work.studio.predictions.stored(version):
        place = wanted.tasks.get(one.task)
        fits = place is not None and one.score is not None and isclose(one.score, wanted.scores[place], abs_tol=1e-6)
        if fits and one.task not in there:
            there.add(one.task)
        else:
            wrong.append(one.id)
    return [task for task in wanted.tasks if task not in there], wrong


def _drop_superseded(work: Work, version: str, progress: Progress) -> None:
    for old in work.studio.predictions.versions():
        if old.startswith(FINAL) and old != version:
            work.studio.predictions.delete_version(old, beat=lambda: progress(1.0))
