"""What learners are given, and what a model that they have fitted can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.data.views import ViewBank
from model.errors import BadInput
from model.learners.settings import FitSettings
from model.problems import Problem
from model.problems.base import Decoding, Encoded, Target
from model.progress import Progress, ignore_progress
from model.querying.outputs import BoolArray, IntArray, Outputs

NO_NEEDS: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PoolImages:
    """The images of a pool as learners see them, all by pool index.

    features: None where there is no encoder. views: with their aspect kept; None where the problem asks for none.
    encoders: the folder of ``open_encoder``, for learners that read more of the encoder than its features. activations:
    what the encoder's last block is given, where it is kept. maps: the folder where feature maps of the views are kept
    (``model.learners.kept_maps``); None where they are computed whenever they are needed.
    """

    bank: ImageBank
    features: FeatureBank | None = None
    views: ViewBank | None = None
    encoders: Path = Path("encoders")
    activations: FeatureBank | None = None
    maps: Path | None = None


@dataclass(frozen=True)
class Fitted:
    """What came out of a fit. learner: that was fitted. about: what there is to say of it, plain values."""

    learner: str
    about: dict[str, object]
    seconds: float


class Model(Protocol):
    """A fitted model. problem: what it predicts. classes: the number of them. decoding: see ``Problem.tune``."""

    classes: int
    decoding: Decoding

    @property
    def problem(self) -> Problem:
        """What it predicts."""
        ...

    def predict_pool(
        self,
        pool: PoolImages,
        indices: IntArray | None = None,
        *,
        needs: frozenset[str] = NO_NEEDS,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return the problem's base outputs of these images or the whole pool, and what else is needed.

        Raises BadInput for a need that the model was not fitted for.
        """
        ...


class LearnerCode(Protocol):
    """What a learner's module has (``model.learners.registry``)."""

    def fit(
        self,
        pool: PoolImages,
        indices: IntArray,
        truth: Encoded,
        of: Problem,
        classes: Sequence[str],
        settings: FitSettings,
        *,
        out: Path,
        checkpoint: Path,
        pretext_weights: Path | None = None,
        progress: Progress = ignore_progress,
    ) -> Fitted:
        """Fit a model to the labeled images and write it to ``out``, whole or not at all.

        indices: (n,) pool indices of the labeled images. truth: (n, ...) their targets as ``of.encode`` gives them.
        checkpoint: where a killed fit goes on from. What is written is a file of ``write_weights`` whose ``learner`` is
        the learner's name.
        """
        ...

    def load(self, path: Path, device: str = "auto") -> Model:
        """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
        ...


def checked_labels(indices: IntArray, truth: Encoded, of: Problem, classes: Sequence[str]) -> tuple[IntArray, Encoded]:
    """Return pool indices (n,) and encoded targets (n, ...) as arrays; raise BadInput where no model fits them."""
    indices, truth = np.asarray(indices, np.int64), np.asarray(truth)
    if len(indices) != len(truth) or len(indices) == 0:
        raise BadInput(f"found {len(indices)} labeled images and {len(truth)} labels")
    of.check(truth, len(classes))
    return indices, truth


def check_known(known: BoolArray, what: str) -> None:
    """Raise BadInput where labeled images lack what a learner reads. known: (n,) which of them have it."""
    if not known.all():
        raise BadInput(f"{int((~known).sum())} of {len(known)} labeled images have no {what} yet")


def drawn_labels(indices: IntArray, truth: Encoded, most: int, seed: int) -> tuple[IntArray, Encoded]:
    """Return the labels that are trained on: all, or of more than ``most``, so many drawn ones."""
    rows = np.sort(np.random.default_rng([seed, 0]).permutation(len(indices))[:most])
    return indices[rows], truth[rows]


def evaluate(
    model: Model, pool: PoolImages, indices: IntArray, targets: Sequence[Target], classes: Sequence[str]
) -> float:
    """Return how good a model's predictions for these images are together: the problem's ``score``."""
    if not len(indices):
        raise BadInput("there are no images to measure the model on")
    outputs = model.predict_pool(pool, indices)
    decoding = model.problem.ranked(model.decoding)
    predictions = model.problem.decode(outputs, np.arange(len(indices)), classes, decoding)
    return model.problem.score(predictions, targets, classes)
