"""Predictions from stored posteriors; a worker scores what is not stored."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.config import MOST_UNSEEN, ProjectConfig
from backend.errors import ProjectError, QueueUnavailable
from backend.labeling.choices import LabelSpec, prediction_result, read_label_config
from backend.project_files import Files
from backend.queueing.queues import TRAIN
from backend.store import ProjectRow, RoundRow
from backend.store.projects import LARGEST
from backend.web.services import Services

logger = logging.getLogger(__name__)

WAIT_S = 60.0  # for a worker to score unseen tasks; Label Studio waits for 100 s
WAITING = 3  # requests of a process that may wait; the other threads answer /health, /setup and /webhook meanwhile

_waiting = threading.BoundedSemaphore(WAITING)


def served_version(model: RoundRow | None) -> str:
    """Return the model version of ``/predict``'s answers; never the queue's version, which only the queue may have."""
    return f"pt4al-r{model.number if model else 0:03d}-pool"


def predict_tasks(here: Services, project: ProjectRow, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one prediction per task, in their order: otherwise Label Studio drops the whole answer.

    A task without one (no model yet, a broken image) gets an empty result and the score 0.
    """
    model = here.store.of(project.id).rounds.newest_model()
    found = _posteriors(here, project, model, [_task_id(task) for task in tasks]) if model else {}
    config = ProjectConfig.from_extra_params(project.extra_params)
    try:
        spec = read_label_config(project.label_config)
    except ProjectError:
        spec = None
    version = served_version(model)
    classes = (model.classes or []) if model else []
    answers = []
    for task in tasks:
        posterior = found.get(_task_id(task))
        answers.append(_prediction(posterior, classes, spec if config.preannotate else None, version))
    return answers


def _prediction(
    posterior: NDArray[np.float32] | None, classes: list[str], spec: LabelSpec | None, version: str
) -> dict[str, Any]:
    if posterior is None or len(posterior) != len(classes):
        return {"result": [], "score": 0.0, "model_version": version}
    best = int(posterior.argmax())
    known = spec is not None and classes[best] in spec.classes
    result = prediction_result(classes[best], spec) if known and spec else []
    return {"result": result, "score": float(posterior[best]), "model_version": version}


def _posteriors(
    here: Services, project: ProjectRow, model: RoundRow, task_ids: list[int]
) -> dict[int, NDArray[np.float32]]:
    """Return posteriors (C,) by task id: stored ones, and those that a worker computes in time."""
    path = Files.of(here.settings.data_dir, project.id).probs(model.number)
    found: dict[int, NDArray[np.float32]] = {}
    if path.exists():
        probs = np.load(path, mmap_mode="r")
        indices = here.store.of(project.id).tasks.pool_indices(task_ids)
        found = {task_id: np.asarray(probs[i]) for task_id, i in indices.items() if i < len(probs)}
    unseen = [task_id for task_id in task_ids if task_id not in found and task_id >= 0]
    if unseen:
        found.update(_scored(here, project, unseen))
    return found


def _scored(here: Services, project: ProjectRow, task_ids: list[int]) -> dict[int, NDArray[np.float32]]:
    """Have a worker score the first ``MOST_UNSEEN`` tasks; return nothing if ``WAITING`` requests wait already."""
    if not _waiting.acquire(blocking=False):
        logger.warning(
            "%d tasks of project %s go without a prediction: too many wait", len(task_ids), project.studio_project_id
        )
        return {}
    if len(task_ids) > MOST_UNSEEN:
        logger.info(
            "%d tasks of project %s go without a prediction now", len(task_ids) - MOST_UNSEEN, project.studio_project_id
        )
    until = time.time() + WAIT_S
    given = (project.id, task_ids[:MOST_UNSEEN], until)
    try:
        answer = here.queueing.ask(TRAIN, "backend.loop.jobs.score_tasks", *given, timeout_s=WAIT_S)
    except QueueUnavailable as error:
        logger.warning(
            "%s; %d tasks of project %s go without a prediction", error, len(task_ids), project.studio_project_id
        )
        return {}
    finally:
        _waiting.release()
    return {int(task_id): np.asarray(row, np.float32) for task_id, row in (answer or {}).items()}


def _task_id(task: dict[str, Any]) -> int:
    task_id = task.get("id")
    known = isinstance(task_id, int) and not isinstance(task_id, bool) and 0 <= task_id <= LARGEST
    return task_id if known and task_id is not None else -1
