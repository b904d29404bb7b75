"""What the networks say of the pool: the arrays that query strategies read."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PASSES = frozenset({"ensemble_probs"})  # outputs whose first axis is not the pool but members
FEATURES = np.float16  # what a network's features are kept in: of a million images, half a gigabyte


@dataclass(frozen=True)
class Outputs:
    """Arrays by ``pool_index``; what nobody needed is None. A memory map serves as well as an array in memory.

    probs: (N, C) posterior of the main model.
    embeddings: (N, D) penultimate features of the main model, in FEATURES.
    mutual_information: (N,) of label and weights, over passes with dropout, in nats.
    ensemble_probs: (T, N, C) posteriors of T main models that were trained on the same labels.
    predicted_losses: (N,) loss of the main task as a module predicts it that was trained together with the main model.
    detached_losses: (N,) the same, of a module whose training left the main model alone.
    labeled_probability: (N,) probability that an image is among the labeled ones, as a discriminator sees it.
    pretext_embeddings: (N, D') features of the pretext network, in FEATURES.
    """

    probs: FloatArray | None = None
    embeddings: FloatArray | None = None
    mutual_information: FloatArray | None = None
    ensemble_probs: FloatArray | None = None
    predicted_losses: FloatArray | None = None
    detached_losses: FloatArray | None = None
    labeled_probability: FloatArray | None = None
    pretext_embeddings: FloatArray | None = None


OUTPUTS = tuple(field.name for field in fields(Outputs))


def as_features(values: FloatArray) -> FloatArray:
    """Return values in FEATURES; what is beyond its range becomes its largest number, not infinity."""
    most = float(np.finfo(FEATURES).max)
    features: FloatArray = np.clip(values, -most, most).astype(FEATURES)
    return features


def pool_axis(name: str) -> int:
    """Return the axis of the output of that name that counts the images of the pool."""
    return 1 if name in PASSES else 0


def sizes_of(outputs: Outputs) -> dict[str, int]:
    """Return the number of images that each output covers."""
    arrays = {name: getattr(outputs, name) for name in OUTPUTS}
    return {name: array.shape[pool_axis(name)] for name, array in arrays.items() if array is not None}
