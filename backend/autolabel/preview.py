"""Labeling the rest: what the newest model says of the images that nobody has labeled, and how often it will be wrong.

Only numpy: pages show it before anything is written, and the job that writes it uses the same numbers.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from backend.project_files import Files
from backend.store import ProjectRow, RoundRow, Store
from model.evaluation.calibration import Errors, Temperature, expected_errors, fit_temperature, predict
from model.problems import problem
from model.problems.base import Prediction
from model.querying.outputs import BoolArray, FloatArray, IntArray, Outputs

PROBLEM = problem("single_label")
FINAL = "pt4al-final-r"  # what every version of final predictions begins with; the queue's never does


def autolabel_version(number: int) -> str:
    """Give the version that the predictions of a round's model are written under."""
    return f"{FINAL}{number:03d}"


@dataclass(frozen=True)
class Prospect:
    """What would be written above a confidence.

    images: how many. left: unlabeled ones that stay without. held, held_wrong: holdout images above the confidence, and
    those of them about which the model is wrong.
    """

    confidence: float
    images: int
    left: int
    errors: Errors
    held: int
    held_wrong: int


class Rest:
    """The pool as one round's model sees it. Arrays are by pool index, as far as the model has seen the pool."""

    def __init__(self, store: Store, project: ProjectRow, row: RoundRow, probs: FloatArray) -> None:
        """Take the posteriors (N, C) of the model of ``row``; see ``open_rest``."""
        self.row, self.probs = row, probs
        self.classes = row.classes or []
        pool = store.of(project.id).dashboard.pool(len(probs))
        self.task_id: IntArray = pool.task_id
        self.unlabeled: BoolArray = pool.unlabeled
        self.unseen = store.of(project.id).tasks.counts(0).available - int(self.unlabeled.sum())
        ids = {name: number for number, name in enumerate(self.classes)}
        held = [
            (i, ids[label]) for i, label in store.of(project.id).dashboard.holdout() if label in ids and i < len(probs)
        ]
        table = np.array(held, np.int64).reshape(-1, 2)
        self.held, self.truth = table[:, 0], table[:, 1]

    @cached_property
    def temperature(self) -> Temperature:
        """What makes the model's confidence honest, by the holdout: labels that it was trained on would flatter it."""
        return fit_temperature(PROBLEM, self.outputs, self.held, self.truth)

    @property
    def outputs(self) -> Outputs:
        """What the model says of the pool."""
        return Outputs(probs=self.probs)

    def predictions(self, temperature: float) -> tuple[list[Prediction], FloatArray]:
        """Give the prediction (N) of each image and its confidence (N,) at a temperature."""
        return predict(PROBLEM, self.outputs, np.arange(len(self.probs)), self.classes, {}, temperature)

    @cached_property
    def guesses(self) -> tuple[list[Prediction], FloatArray]:
        """The prediction (N) of each image and its calibrated confidence (N,)."""
        return self.predictions(self.temperature.value)

    def prospect(self, confidence: float) -> Prospect:
        """Give what would be written above ``confidence``."""
        best, sure = self.guesses
        chosen = self.unlabeled & (sure >= confidence)
        images = int(chosen.sum())
        held = self.held[sure[self.held] >= confidence]
        truth = [self.classes[number] for number in self.truth]
        wrong = [best[i] != t for i, t in zip(self.held, truth, strict=True) if sure[i] >= confidence]
        left = int(self.unlabeled.sum()) - images + self.unseen
        errors = expected_errors(PROBLEM, self.outputs, chosen, self.temperature, {})
        return Prospect(confidence, images, left, errors, len(held), sum(wrong))


def open_rest(store: Store, data_dir: Path, project: ProjectRow, row: RoundRow | None = None) -> Rest | None:
    """Open what the newest model, or that of ``row``, says of the pool; None without a model or its posteriors."""
    row = row or store.of(project.id).rounds.newest_model()
    path = Files.of(data_dir, project.id).probs(row.number) if row is not None else None
    if row is None or path is None or not path.exists():
        return None
    probs: FloatArray = np.load(path, mmap_mode="r")
    if row.classes is None or probs.shape[1] != len(row.classes):
        return None
    return Rest(store, project, row, probs)


def rest_version(store: Store, data_dir: Path, project: ProjectRow) -> tuple[Hashable, ...]:
    """Give a value that is another one once ``open_rest`` of the newest model may give something else.

    It costs the same in a pool of any size. An answer that becomes another one moves no count, but the cursor.
    """
    row = store.of(project.id).rounds.newest_model()
    if row is None:
        return ()
    path = Files.of(data_dir, project.id).probs(row.number)
    written = path.stat().st_mtime_ns if path.exists() else None
    tasks = store.of(project.id).tasks.counts(0)
    counts = tasks.ok, tasks.available, tasks.labeled, tasks.trainable
    return row.number, tuple(row.classes or ()), written, project.cursor, project.image_side, counts
