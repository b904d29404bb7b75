"""What the networks say of the pool: the arrays that query strategies read, and the table that describes them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FEATURES = np.float16  # what a network's features are kept in: of a million images, half a gigabyte

Part = Literal["dropout", "members", "attached_losses", "detached_losses", "ranked_losses", "critic"]


@dataclass(frozen=True)
class Outputs:
    """Arrays by ``pool_index``; what nobody needed is None. A memory map serves as well as an array in memory.

    probs: (N, C) posterior of the main model over classes that exclude each other.
    logits: (N, C) whose softmax are ``probs``.
    class_probs: (N, C) probability of each class, each for itself.
    values: (N, D) numbers whose meaning is the problem's own.
    class_maps: (N, S, S) uint8 class ids of an image's pixels (``model.data.masks``).
    boxes: (N, M, 6) objects, the surest first: left, top, width and height as shares of the image, score, class id; -1
    behind the last one.
    places: (N, P, D) features of the places of a square grid over each image, row by row, in FEATURES.
    embeddings: (N, D) penultimate features of the main model, in FEATURES.
    mutual_information: (N,) of label and weights, over passes with dropout, in nats.
    dropout_entropy: (N,) entropy of the mean posterior over passes with dropout, in nats.
    dropout_probs: (T, N, C) posteriors of passes with dropout, in FEATURES.
    ensemble_probs: (T, N, C) posteriors of T main models that were trained on the same labels.
    predicted_losses: (N,) loss of the main task as a module predicts it that was trained together with the main model.
    detached_losses: (N,) the same, of a module whose training left the main model alone.
    labeled_probability: (N,) probability that an image is among the labeled ones, as a discriminator sees it.
    task_aware_probability: (N,) the same, of a discriminator that knows a rank by predicted losses besides.
    critic: (N,) in [0, 1]: how far a critic that was trained against the main model takes an image for unlabeled.
    graph_features: (N, H) features of a graph network that has learned which images are labeled, in FEATURES.
    turned_embeddings: (N, 4, D) embeddings of each image turned by 0 to 3 quarters, in FEATURES.
    pretext_embeddings: (N, D') features of the pretext network, in FEATURES.
    """

    probs: FloatArray | None = None
    logits: FloatArray | None = None
    class_probs: FloatArray | None = None
    values: FloatArray | None = None
    class_maps: npt.NDArray[Any] | None = None
    boxes: FloatArray | None = None
    places: FloatArray | None = None
    embeddings: FloatArray | None = None
    mutual_information: FloatArray | None = None
    dropout_entropy: FloatArray | None = None
    dropout_probs: FloatArray | None = None
    ensemble_probs: FloatArray | None = None
    predicted_losses: FloatArray | None = None
    detached_losses: FloatArray | None = None
    labeled_probability: FloatArray | None = None
    task_aware_probability: FloatArray | None = None
    critic: FloatArray | None = None
    graph_features: FloatArray | None = None
    turned_embeddings: FloatArray | None = None
    pretext_embeddings: FloatArray | None = None


def _uniform(known: FloatArray) -> float:
    return 1.0 / int(known.shape[-1])


def _half(known: FloatArray) -> float:
    return 0.5


def _none(known: FloatArray) -> float:
    return -1.0


def _origin(known: FloatArray) -> float:
    return 0.0


def _ignored(known: FloatArray) -> float:
    return 255.0  # model.data.masks.IGNORED


def _mean(known: FloatArray) -> float:
    """Return the mean: neither the first to be asked nor the last."""
    return float(np.mean(known)) if len(known) else 0.0


@dataclass(frozen=True)
class OutputSpec:
    """How an output is computed and kept.

    name: a field of ``Outputs``. neutral: from the array of the images that a model has seen to the value that those
    get that came after it. pool_axis: the axis that counts the images of the pool. dtype: of the array. requires: the
    part of the network that has to be trained for it, None where every model gives it. whole_pool: whether it is
    defined for the whole pool only. large: whether it fills memory, so that it is read for samplers that need it alone.
    """

    name: str
    neutral: Callable[[FloatArray], float]
    pool_axis: int = 0
    dtype: type[np.number[Any]] = np.float32
    requires: Part | None = None
    whole_pool: bool = False
    large: bool = False


OUTPUTS: dict[str, OutputSpec] = {
    spec.name: spec
    for spec in (
        OutputSpec("probs", _uniform),
        OutputSpec("logits", _origin),
        OutputSpec("class_probs", _half),
        OutputSpec("values", _mean),
        OutputSpec("class_maps", _ignored, dtype=np.uint8, large=True),
        OutputSpec("boxes", _none),
        OutputSpec("places", _origin, dtype=FEATURES),
        OutputSpec("embeddings", _origin, dtype=FEATURES),
        OutputSpec("mutual_information", _mean, requires="dropout"),
        OutputSpec("dropout_entropy", _mean, requires="dropout"),
        OutputSpec("dropout_probs", _uniform, pool_axis=1, dtype=FEATURES, requires="dropout"),
        OutputSpec("ensemble_probs", _uniform, pool_axis=1, requires="members"),
        OutputSpec("predicted_losses", _mean, requires="attached_losses"),
        OutputSpec("detached_losses", _mean, requires="detached_losses"),
        OutputSpec("labeled_probability", _mean, whole_pool=True),
        OutputSpec("task_aware_probability", _mean, requires="ranked_losses", whole_pool=True),
        OutputSpec("critic", _mean, requires="critic"),
        OutputSpec("graph_features", _origin, dtype=FEATURES, whole_pool=True),
        OutputSpec("turned_embeddings", _origin, dtype=FEATURES),
        OutputSpec("pretext_embeddings", _origin, dtype=FEATURES),
    )
}

# (N,) each, computed by the problem from the others, never stored: what every problem has, and what those have whose
# models give posteriors over classes that exclude each other, of the image or of its pixels;
# ``doubtful_part`` is of pixels alone.
COMMON_DERIVED = frozenset({"confidence", "uncertainty", "top_posterior"})
DERIVED = COMMON_DERIVED | {"margin", "entropy", "doubtful_part"}


def as_features(values: FloatArray) -> FloatArray:
    """Return values in FEATURES; what is beyond its range becomes its largest number, not infinity."""
    most = float(np.finfo(FEATURES).max)
    features: FloatArray = np.clip(values, -most, most).astype(FEATURES)
    return features


def pool_axis(name: str) -> int:
    """Return the axis of the output of that name that counts the images of the pool; 0 for a derived one."""
    return OUTPUTS[name].pool_axis if name in OUTPUTS else 0


def sizes_of(outputs: Outputs) -> dict[str, int]:
    """Return the number of images that each output covers."""
    arrays = {field.name: getattr(outputs, field.name) for field in fields(Outputs)}
    return {name: array.shape[pool_axis(name)] for name, array in arrays.items() if array is not None}


def extended(name: str, known: FloatArray, size: int) -> FloatArray:
    """Return an output for a pool of ``size`` images, neutral for those that came after it was computed."""
    spec = OUTPUTS[name]
    seen = known.shape[spec.pool_axis]
    if seen >= size:
        return known[:, :size] if spec.pool_axis else known[:size]
    shape = list(known.shape)
    shape[spec.pool_axis] = size - seen
    return np.concatenate([known, np.full(shape, spec.neutral(known), known.dtype)], axis=spec.pool_axis)
