"""Labeling the rest: the number of predictions above a confidence, and their expected quality. Numpy only."""

from dataclasses import dataclass

import numpy as np

from backend.status.predictions import PoolPredictions
from model.evaluation.calibration import Errors, expected_errors
from model.problems.base import Mistakes

VERSION_PREFIX = "pt4al-final-r"  # of every version of final predictions; the queue's versions never begin with it


def autolabel_version(number: int) -> str:
    """Return the version that the predictions of a round's model are written under."""
    return f"{VERSION_PREFIX}{number:03d}"


@dataclass(frozen=True)
class AutolabelPreview:
    """What would be written above a confidence.

    images: how many. left: unlabeled ones that stay without. errors: how much quality they lack together; where a
    prediction is right or wrong, the number of wrong ones. held, held_wrong: holdout images above the confidence, and
    how much quality those lack. mistakes: of the things on these images, where they are counted each for itself.
    """

    confidence: float
    images: int
    left: int
    errors: Errors
    held: int
    held_wrong: float
    mistakes: Mistakes | None

    @property
    def expected_mean(self) -> float:
        """The expected mean quality of what would be written; 1 where that is nothing."""
        return 1 - self.errors.expected / self.images if self.images else 1.0

    @property
    def expected_interval(self) -> tuple[float, float]:
        """The 95% interval of that mean."""
        if not self.images:
            return 0.0, 1.0
        return 1 - self.errors.high / self.images, 1 - self.errors.low / self.images

    @property
    def held_mean(self) -> float | None:
        """The mean quality on the holdout images above the confidence; None without any."""
        return 1 - self.held_wrong / self.held if self.held else None


def preview(predictions: PoolPredictions, confidence: float) -> AutolabelPreview:
    """Return what would be written above ``confidence``."""
    sure = predictions.confidences
    chosen = predictions.unlabeled & (sure >= confidence)
    images = int(chosen.sum())
    above = sure[predictions.held] >= confidence
    lacking = float((1 - predictions.held_quality[above]).sum())
    return AutolabelPreview(
        confidence=confidence,
        images=images,
        left=int(predictions.unlabeled.sum()) - images + predictions.unseen,
        errors=expected_errors(
            predictions.problem, predictions.outputs, chosen, predictions.temperature, predictions.decoding
        ),
        held=int(above.sum()),
        held_wrong=int(lacking) if lacking.is_integer() else lacking,
        mistakes=predictions.problem.expected_mistakes(
            predictions.outputs, np.flatnonzero(chosen), predictions.decoding, predictions.temperature.value
        ),
    )
