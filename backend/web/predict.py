"""Predictions from stored outputs; a worker scores what is not stored."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from backend.config import MOST_UNSEEN, ProjectConfig
from backend.errors import ProjectError, QueueUnavailable
from backend.items.sizes import items_of
from backend.labeling.base import Item
from backend.labeling.project import labeling_of
from backend.project_files import Files
from backend.queueing.queues import TRAIN
from backend.status.predictions import open_outputs
from backend.store import ProjectRow, RoundRow
from backend.store.base import LARGEST
from backend.web.services import Services
from model.problems.base import Prediction

logger = logging.getLogger(__name__)

WAIT_S = 60.0  # for a worker to score unseen tasks; Label Studio waits for 100 s
WAITING = 3  # requests of a process that may wait; the other threads answer /health, /setup and /webhook meanwhile

_waiting = threading.BoundedSemaphore(WAITING)


def served_version(model: RoundRow | None) -> str:
    """Return the version that ``/predict`` answers with; never the queue's, which only the queue may carry."""
    return f"pt4al-r{model.number if model else 0:03d}-pool"


def predict_tasks(services: Services, project: ProjectRow, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one prediction per task, in order: Label Studio drops the whole answer otherwise.

    A task without one (no model yet, a broken image) gets an empty result and the score 0.
    """
    model = services.store.of(project.id).rounds.newest_model()
    predicted = _predictions(services, project, model, [_task_id(task) for task in tasks]) if model else {}
    config, version = ProjectConfig.from_extra_params(project.extra_params), served_version(model)
    try:
        labeling = labeling_of(project) if config.preannotate else None
    except ProjectError:
        labeling = None
    items = {}
    if labeling is not None:
        files = Files.of(services.settings.data_dir, project.id)
        items = items_of(services.store.of(project.id), files, labeling, [*predicted])
    answers = []
    for task in tasks:
        task_id = _task_id(task)
        prediction, score = predicted.get(task_id, (None, 0.0))
        item = items.get(task_id, Item())
        result = labeling.result(prediction, item) if labeling is not None and prediction is not None else []
        answers.append({"result": result, "score": score, "model_version": version})
    return answers


def _predictions(
    services: Services, project: ProjectRow, model: RoundRow, task_ids: list[int]
) -> dict[int, tuple[Prediction, float]]:
    """Return prediction and confidence by task id: from stored outputs, and from a worker that computes them in time.

    Confidences are those of the model itself, at a temperature of 1.
    """
    stored = open_outputs(Files.of(services.settings.data_dir, project.id), model)
    predicted: dict[int, tuple[Prediction, float]] = {}
    if stored is not None:
        known = services.store.of(project.id).tasks.pool_indices(task_ids)
        seen = {task_id: index for task_id, index in known.items() if index < stored.size}
        indices = np.array([*seen.values()], np.int64)
        rows = zip(seen, stored.predict(indices), stored.confidence(indices).tolist(), strict=True)
        predicted = {task_id: (prediction, confidence) for task_id, prediction, confidence in rows}
    unseen = [task_id for task_id in task_ids if task_id not in predicted and task_id >= 0]
    if unseen:
        predicted.update(_scored(services, project, unseen))
    return predicted


def _scored(services: Services, project: ProjectRow, task_ids: list[int]) -> dict[int, tuple[Prediction, float]]:
    """Have a worker score the first of these tasks, unless as many requests wait for one already as may."""
    if not _waiting.acquire(blocking=False):
        logger.warning(
            "%d tasks of project %s go without a prediction: too many wait", len(task_ids), project.studio_project_id
        )
        return {}
    if len(task_ids) > MOST_UNSEEN:
        rest = len(task_ids) - MOST_UNSEEN
        logger.info("%d tasks of project %s go without a prediction now", rest, project.studio_project_id)
    until = services.store.clock.now() + WAIT_S
    given = (project.id, task_ids[:MOST_UNSEEN], until)
    try:
        answer = services.queueing.ask(TRAIN, "backend.loop.jobs.score_tasks", *given, timeout_s=WAIT_S)
    except QueueUnavailable as error:
        logger.warning(
            "%s; %d tasks of project %s go without a prediction", error, len(task_ids), project.studio_project_id
        )
        return {}
    finally:
        _waiting.release()
    return {int(task_id): (prediction, float(score)) for task_id, (prediction, score) in (answer or {}).items()}


def _task_id(task: dict[str, Any]) -> int:
    task_id = task.get("id")
    known = isinstance(task_id, int) and not isinstance(task_id, bool) and 0 <= task_id <= LARGEST
    return task_id if known and task_id is not None else -1
