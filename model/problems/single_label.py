"""One class an image: the classes exclude each other. A target is the name of a class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from model.errors import BadInput
from model.evaluation.metrics import cohen_kappa
from model.problems.base import COMMON_OUTPUTS, Decoding, Encoded, Prediction, Target, VectorProblem, chunks
from model.querying.outputs import FloatArray, IntArray, Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

_TINY = 1e-12  # a posterior of zero is taken for this: its logarithm is finite


class SingleLabel(VectorProblem):
    """One class an image. Encoded targets are class ids, (n,) int64."""

    name = "single_label"
    metric = "accuracy"
    base_outputs = ("probs",)
    outputs = COMMON_OUTPUTS | {
        "probs", "logits", "mutual_information", "dropout_entropy", "dropout_probs", "ensemble_probs", "labels",
        "task_aware_probability", "critic", "graph_features", "turned_embeddings", "margin", "entropy",
    }  # fmt: skip
    figures = ("curve", "losses", "balance", "confusion", "reliability", "map")

    def fits(self, target: Target, classes: Sequence[str]) -> bool:
        """Tell whether the target is one of these classes."""
        return isinstance(target, str) and target in classes

    def classes_of(self, target: Target) -> tuple[str, ...]:
        """Return the class, alone."""
        return (target,)

    def decode(
        self, outputs: Outputs, indices: IntArray, classes: Sequence[str], decoding: Decoding
    ) -> list[Prediction]:
        """Return the class of the highest posterior for each of these images."""
        return [classes[best] for part in chunks(indices) for best in _posteriors(outputs, part).argmax(axis=1)]

    def confidence(self, outputs: Outputs, indices: IntArray, decoding: Decoding, temperature: float) -> FloatArray:
        """Return the highest posterior (n,) float32 at a temperature: how often the prediction is right."""
        parts = [np.empty(0, np.float32)]
        for rows in (_posteriors(outputs, part) for part in chunks(indices)):
            parts.append((rows if temperature == 1.0 else calibrate(rows, temperature)).max(axis=1))
        return np.concatenate(parts)

    def uncertainty(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return 1 minus the difference of the two highest posteriors, (n,) float64."""
        return 1.0 - margins(_posteriors(outputs, indices))

    def margin(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the difference between the two highest posteriors, (n,) float64."""
        return margins(_posteriors(outputs, indices))

    def entropy(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the entropy of the posterior in nats, (n,) float64."""
        return entropies(_posteriors(outputs, indices))

    def log_likelihood(
        self, outputs: Outputs, indices: IntArray, truth: Encoded, temperatures: FloatArray
    ) -> FloatArray:
        """Return the sum of the log posteriors of the true classes at each temperature, (G,)."""
        from scipy.special import logsumexp  # imported here: the web does not need it

        if not len(truth):
            return np.zeros(len(temperatures))
        log = np.log(np.maximum(_posteriors(outputs, indices).astype(np.float64), _TINY))
        own = log[np.arange(len(truth)), truth]
        return np.array([float((own / t - logsumexp(log / t, axis=1)).sum()) for t in temperatures])

    def agreement(self, first: Sequence[Prediction], second: Sequence[Prediction]) -> float | None:
        """Return Cohen's kappa; None where both models predict one and the same class throughout."""
        ids = {name: number for number, name in enumerate(dict.fromkeys([*first, *second]))}
        return cohen_kappa(*(np.array([ids[name] for name in names], np.int64) for names in (first, second)))

    def encode(self, targets: Sequence[Target], classes: Sequence[str]) -> Encoded:
        """Return the class ids, (n,) int64."""
        ids = {name: number for number, name in enumerate(classes)}
        return np.array([ids[target] for target in targets], np.int64)

    def check(self, truth: Encoded, classes: int) -> None:
        """Raise BadInput for anything but class ids below ``classes``."""
        if truth.ndim != 1 or truth.dtype.kind != "i":
            raise BadInput(f"found targets of shape {truth.shape} and type {truth.dtype} instead of one class id each")
        if len(truth) and not 0 <= int(truth.min()) <= int(truth.max()) < classes:
            raise BadInput(f"class ids {truth.min()} to {truth.max()} do not fit {classes} classes")

    def head(self, width: int, classes: int) -> "nn.Module":
        """Return a linear layer, (B, width) -> (B, classes) logits."""
        from torch import nn

        return nn.Linear(width, classes)

    def loss(self, raw: "Tensor", truth: "Tensor", label_smoothing: float) -> "Tensor":
        """Return the cross-entropy of each image, (B, C) logits -> (B,)."""
        from torch.nn import functional

        return functional.cross_entropy(raw, truth, label_smoothing=label_smoothing, reduction="none")

    def outputs_of(self, raw: "Tensor") -> dict[str, "Tensor"]:
        """Return the softmax of the logits, (..., C), as ``probs``."""
        return {"probs": raw.softmax(dim=-1)}


def margins(probs: FloatArray) -> FloatArray:
    """Return the difference between the two highest posteriors: (n, C) -> (n,); with one class all are alike, 0."""
    if probs.shape[1] < 2:
        return np.zeros(len(probs))
    second, first = np.partition(np.asarray(probs, np.float64), -2, axis=1)[:, -2:].T
    difference: FloatArray = first - second
    return difference


def entropies(probs: FloatArray) -> FloatArray:
    """Return the entropy in nats over the last axis: (..., C) -> (...), with 0 log 0 = 0."""
    probs = np.asarray(probs, np.float64)
    nats: FloatArray = -(probs * np.log(np.where(probs > 0, probs, 1.0))).sum(axis=-1)
    return nats


def calibrate(probs: FloatArray, temperature: float) -> FloatArray:
    """Return the posteriors (n, C) at another temperature; the order of the classes stays."""
    log = np.log(np.maximum(probs, _TINY)) / temperature
    scaled = np.exp(log - log.max(axis=1, keepdims=True))
    calibrated: FloatArray = (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)
    return calibrated


def _posteriors(outputs: Outputs, indices: IntArray) -> FloatArray:
    if outputs.probs is None:
        raise BadInput("these outputs have no posteriors ('probs')")
    return np.asarray(outputs.probs[indices])
