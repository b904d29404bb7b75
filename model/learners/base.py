"""What learners are given, and what a model that they have fitted can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.errors import BadInput
from model.problems import Problem
from model.problems.base import Decoding, Target
from model.progress import Progress, ignore_progress
from model.querying.outputs import IntArray, Outputs

NO_NEEDS: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PoolImages:
    """The images of a pool as learners see them, both by pool index. features: None where there is no encoder."""

    bank: ImageBank
    features: FeatureBank | None = None


class Model(Protocol):
    """A fitted model. problem: what it predicts. classes: the number of them. decoding: see ``Problem.tune``."""

    problem: Problem
    classes: int
    decoding: Decoding

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


def evaluate(
    model: Model, pool: PoolImages, indices: IntArray, targets: Sequence[Target], classes: Sequence[str]
) -> float:
    """Return the mean quality of a model's predictions for these images: the problem's metric."""
    if not len(indices):
        raise BadInput("there are no images to measure the model on")
    outputs = model.predict_pool(pool, indices)
    predictions = model.problem.decode(outputs, np.arange(len(indices)), classes, model.decoding)
    return float(np.mean([model.problem.quality(p, t) for p, t in zip(predictions, targets, strict=True)]))
