"""What one round's model says of the pool, opened in one place for pages, downloads and jobs. Numpy only."""

from collections.abc import Hashable
from functools import cached_property

import numpy as np

from backend.project_files import Files
from backend.store import ProjectStore, RoundRow
from model.evaluation.calibration import Temperature, fit_temperature, guess
from model.querying.outputs import BoolArray, FloatArray, IntArray


class PoolPredictions:
    """The pool as one round's model sees it. Arrays are by pool index, as far as the model has seen the pool."""

    def __init__(self, store: ProjectStore, row: RoundRow, probs: FloatArray) -> None:
        """Take the posteriors (N, C) of the model of ``row``; see ``open_predictions``."""
        self.row, self.probs = row, probs
        self.classes = row.classes or []
        pool = store.dashboard.pool(len(probs))
        self.task_id: IntArray = pool.task_id
        self.unlabeled: BoolArray = pool.unlabeled
        self.unseen = store.tasks.counts(0).available - int(self.unlabeled.sum())
        ids = {name: number for number, name in enumerate(self.classes)}
        held = [(i, ids[label]) for i, label in store.dashboard.holdout() if label in ids and i < len(probs)]
        table = np.array(held, np.int64).reshape(-1, 2)
        self.held, self.truth = table[:, 0], table[:, 1]

    @cached_property
    def temperature(self) -> Temperature:
        """The temperature that calibrates the confidences, fitted to the holdout: training labels would flatter it."""
        return fit_temperature(np.asarray(self.probs[self.held]), self.truth)

    @cached_property
    def guesses(self) -> tuple[IntArray, FloatArray]:
        """The likeliest class (N,) and its calibrated confidence (N,)."""
        return guess(self.probs, self.temperature.value)


def open_predictions(store: ProjectStore, files: Files, row: RoundRow | None = None) -> PoolPredictions | None:
    """Open what the newest model, or that of ``row``, says of the pool; None without a model or its posteriors."""
    row = row or store.rounds.newest_model()
    path = files.probs(row.number) if row is not None else None
    if row is None or path is None or not path.exists():
        return None
    probs: FloatArray = np.load(path, mmap_mode="r")
    if row.classes is None or probs.shape[1] != len(row.classes):
        return None
    return PoolPredictions(store, row, probs)


def predictions_version(store: ProjectStore, files: Files) -> tuple[Hashable, ...]:
    """Return a value that changes once ``open_predictions`` of the newest model may return something else.

    It costs the same in a pool of any size. An answer that becomes another one moves no count, but the cursor.
    """
    model = store.rounds.newest_model()
    if model is None:
        return ()
    path, project = files.probs(model.number), store.row()
    written = path.stat().st_mtime_ns if path.exists() else None
    tasks = store.tasks.counts(0)
    counts = tasks.ok, tasks.available, tasks.labeled, tasks.trainable
    return model.number, tuple(model.classes or ()), written, project.cursor, project.image_side, counts
