"""A model's predictions of the pool, opened in one place for pages, downloads and jobs. Numpy only."""

import time
from collections.abc import Hashable, Sequence
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from backend.chunks import chunks
from backend.errors import ConfigError, ProjectError
from backend.labeling.project import labeling_of
from backend.project_files import Files
from backend.store import ProjectRow, ProjectStore, RoundRow
from backend.store.dashboard_queries import PoolAnswers
from model.evaluation.calibration import Temperature, fit_temperature
from model.problems import problem
from model.problems.base import Decoding, Prediction, Problem, Target
from model.querying.outputs import BoolArray, FloatArray, IntArray, Outputs, sizes_of

COMPARED_AT_ONCE = 16  # images of the holdout, between two looks at the clock
MODEL_PARTS = 3  # of ``predictions_version``: those of the model

Compared = dict[int, tuple[Target, Any]]  # target, and what ``Problem.compared`` says of it, by pool index


class ModelOutputs:
    """The outputs of one round's model for the images that it has seen, and the predictions made of them.

    size: number of images, the first ones by pool index.
    """

    def __init__(self, row: RoundRow, outputs: Outputs) -> None:
        """Use ``open_outputs``."""
        self.row, self.outputs = row, outputs
        self.problem: Problem = problem(row.problem)
        self.classes: Sequence[str] = row.classes or []
        self.decoding: Decoding = row.decoding or {}
        self.size = min(sizes_of(outputs).values())

    def predict(self, indices: IntArray) -> list[Prediction]:
        """Return the predictions of these images, (n,) pool indices below ``size``."""
        return self.problem.decode(self.outputs, indices, self.classes, self.decoding)

    def confidence(self, indices: IntArray, temperature: float = 1.0) -> FloatArray:
        """Return the confidence (n,) of the predictions of these images, at a temperature."""
        return self.problem.confidence(self.outputs, indices, self.decoding, temperature)

    def qualities(self, indices: IntArray, targets: Sequence[Target]) -> FloatArray:
        """Return how well the predictions of these images fit their targets, (n,) float64."""
        pairs = zip(self.predict(indices), targets, strict=True)
        return np.array([self.problem.quality(prediction, target) for prediction, target in pairs], np.float64)


def open_outputs(files: Files, row: RoundRow) -> ModelOutputs | None:
    """Map what the predictions of a round's model are made of; None where it is not there, or of other classes."""
    if row.classes is None or not row.has_model:
        return None
    paths = {name: files.output(row.number, name) for name in problem(row.problem).base_outputs}
    if not all(path.exists() for path in paths.values()):
        return None
    outputs = Outputs(**{name: _mapped(path) for name, path in paths.items()})
    of_classes = outputs.probs if outputs.probs is not None else outputs.class_probs
    if of_classes is not None and of_classes.shape[1] != len(row.classes):
        return None
    return ModelOutputs(row, outputs)


def _mapped(path: Path) -> FloatArray:
    mapped: FloatArray = np.load(path, mmap_mode="r")
    return mapped


class PoolPredictions(ModelOutputs):
    """The same, with the labeled holdout beside it, and the pool once it is asked for, since a large one takes seconds.

    Arrays are by pool index, ``size`` long. held: (h,) pool indices of the labeled holdout. targets: their targets.
    """

    def __init__(self, store: ProjectStore, row: RoundRow, outputs: Outputs, compared: Compared | None = None) -> None:
        """Use ``open_predictions``."""
        super().__init__(row, outputs)
        self._store, self._compared = store, {} if compared is None else compared
        known = [
            (index, target)
            for index, target in store.dashboard.holdout()
            if index < self.size and self.problem.fits(target, self.classes)
        ]
        self.held: IntArray = np.array([index for index, _ in known], np.int64)
        self.targets: list[Target] = [target for _, target in known]

    @cached_property
    def _pool(self) -> PoolAnswers:
        return self._store.dashboard.pool(self.size)

    @property
    def task_id(self) -> IntArray:
        """The task of each image, -1 where there is none."""
        return self._pool.task_id

    @property
    def unlabeled(self) -> BoolArray:
        """Whether an image is without an answer; the holdout does not count."""
        return self._pool.unlabeled

    @cached_property
    def unseen(self) -> int:
        """Number of images without an answer that came after the model was trained."""
        return self._store.tasks.counts(0).available - int(self.unlabeled.sum())

    @property
    def has_confidence(self) -> bool:
        """Whether the problem has confidences: without a method of its own, it has 1 for every prediction."""
        return type(self.problem).confidence is not Problem.confidence

    @cached_property
    def temperature(self) -> Temperature:
        """The temperature that calibrates the confidences, fitted to the holdout: training labels would flatter it."""
        truth = self.problem.encode(self.targets, self.classes)
        return fit_temperature(self.problem, self.outputs, self.held, truth)

    @cached_property
    def confidences(self) -> FloatArray:
        """The calibrated confidence of every prediction."""
        return self.confidence(np.arange(self.size), self.temperature.value)

    def compared(self, until: float = inf) -> list[Any]:
        """Return what ``Problem.compared`` says of each image of the holdout, in the order of ``held``.

        It is kept as long as model and target are the same. until: of the monotonic clock; what is not compared by then
        is None, and follows with the next call.
        """
        known, places = self._compared, [*enumerate(zip(self.held.tolist(), self.targets, strict=True))]
        fresh = [place for place, (index, target) in places if index not in known or known[index][0] != target]
        for part in chunks(fresh, COMPARED_AT_ONCE):
            for place, prediction in zip(part, self.predict(self.held[part]), strict=True):
                target = self.targets[place]
                known[int(self.held[place])] = target, self.problem.compared(prediction, target, self.classes)
            if time.monotonic() > until:
                break
        return [
            known[index][1] if index in known and known[index][0] == target else None for _, (index, target) in places
        ]

    @property
    def held_quality(self) -> FloatArray:
        """How well the predictions fit the holdout, (h,)."""
        return np.array([self.problem.quality_of(compared) for compared in self.compared()], np.float64)


def open_predictions(
    store: ProjectStore, files: Files, row: RoundRow | None = None, compared: Compared | None = None
) -> PoolPredictions | None:
    """Open what the newest model, or that of ``row``, says of the pool; None without a model or its outputs.

    compared: what is known of the same model's holdout from before, which grows.
    """
    row = row or store.rounds.newest_model()
    opened = open_outputs(files, row) if row is not None else None
    return PoolPredictions(store, opened.row, opened.outputs, compared) if opened is not None else None


def predictions_version(store: ProjectStore, files: Files) -> tuple[Hashable, ...]:
    """Return a value that changes once ``open_predictions`` of the newest model may return something else.

    It costs the same in a pool of any size. A changed answer changes no count, but the cursor.
    """
    model = store.rounds.newest_model()
    if model is None:
        return ()
    paths = [files.output(model.number, name) for name in problem(model.problem).base_outputs]
    written = tuple(path.stat().st_mtime_ns if path.exists() else None for path in paths)
    project, tasks = store.row(), store.tasks.counts(0)
    counts = tasks.ok, tasks.available, tasks.labeled, tasks.trainable
    return model.number, tuple(model.classes or ()), written, project.cursor, project.image_side, counts


def asks_for(project: ProjectRow, predicted: Problem) -> bool:
    """Tell whether a project's label configuration asks for what a model predicts; True while it cannot be read."""
    try:
        return labeling_of(project).problem == predicted.name
    except (ConfigError, ProjectError):
        return True
