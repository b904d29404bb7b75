"""Several classes an image, or none: each is there or not. A target is a list of names in the configured order."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from model.errors import BadInput
from model.evaluation.metrics import cohen_kappa
from model.problems.base import COMMON_OUTPUTS, Decoding, Encoded, Prediction, Target, VectorProblem, chunks
from model.querying.outputs import BoolArray, FloatArray, IntArray, Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT_THRESHOLD = 0.5
FEWEST = 5  # images with a class, and without it, below which its threshold is not chosen
LOWEST = 0.1  # threshold, and 1 minus the highest: F1 has every image take a class that a model knows nothing about
PRIOR = 10.0  # images with a class by which a chosen threshold is drawn towards the default
_EDGE = 1e-7  # how near to 0 and 1 a probability may come: its logit is finite


class MultiLabel(VectorProblem):
    """A set of classes an image. Encoded targets are 0 and 1, (n, C) float32."""

    name = "multi_label"
    metric = "f1"
    base_outputs = ("class_probs",)
    outputs = COMMON_OUTPUTS | {"class_probs"}
    figures = ("curve", "losses", "balance", "classes", "reliability", "map")
    folds = 3

    def fits(self, target: Target, classes: Sequence[str]) -> bool:
        """Tell whether the target is a list of distinct names of these classes."""
        if not isinstance(target, list | tuple) or not all(isinstance(name, str) for name in target):
            return False
        return set(target) <= set(classes) and len(set(target)) == len(target)

    def merge(self, votes: Sequence[Target]) -> Target | None:
        """Return the classes that more than half of the annotators name; None without votes.

        A class that exactly half of them name is left out: a dispute about one class does not cost the agreement about
        the others. Two classes of more than half of the votes each stand together in one of them at least, which
        tells their order.
        """
        if not votes:
            return None
        counts = dict.fromkeys(chain.from_iterable(votes), 0)
        for vote in votes:
            for name in dict.fromkeys(vote):
                counts[name] += 1
        chosen = [name for name, count in counts.items() if 2 * count > len(votes)]
        before = {name: sum(_precedes(votes, other, name) for other in chosen) for name in chosen}
        return sorted(chosen, key=before.__getitem__)

    def quality(self, prediction: Prediction, target: Target) -> float:
        """Return the F1 of the two sets; 1 where both are empty."""
        predicted, wanted = set(prediction), set(target)
        named = len(predicted) + len(wanted)
        return 2 * len(predicted & wanted) / named if named else 1.0

    def classes_of(self, target: Target) -> tuple[str, ...]:
        """Return the classes of the target."""
        return tuple(target)

    def decode(
        self, outputs: Outputs, indices: IntArray, classes: Sequence[str], decoding: Decoding
    ) -> list[Prediction]:
        """Return the classes whose probability reaches their threshold, for each of these images.

        decoding: ``thresholds`` (C,) in the order of the classes; DEFAULT_THRESHOLD without.
        """
        named = np.array(classes, object)
        rows = (row for part in chunks(indices) for row in _chosen(_probabilities(outputs, part), decoding))
        return [named[row].tolist() for row in rows]

    def confidence(self, outputs: Outputs, indices: IntArray, decoding: Decoding, temperature: float) -> FloatArray:
        """Return about the expected F1 of each predicted set S at a temperature, (n,) float32.

        2 * sum of p over S / (|S| + sum of p over all classes): the ratio of the expected counts. Of an empty set, the
        probability that no class is there, which is exact if they are independent.
        """
        parts = [_expected_f1(_probabilities(outputs, part), decoding, temperature) for part in chunks(indices)]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def uncertainty(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the mean doubt about the classes, 1 - |2p - 1| each, (n,) float64.

        The mean, not the largest: an answer settles all doubts about its image at once, and with many classes one of
        them is nearly always in doubt. For two classes that exclude each other, a doubt is 1 minus the margin.
        """
        probabilities = _probabilities(outputs, indices).astype(np.float64)
        doubt: FloatArray = (1.0 - np.abs(2.0 * probabilities - 1.0)).mean(axis=1)
        return doubt

    def log_likelihood(
        self, outputs: Outputs, indices: IntArray, truth: Encoded, temperatures: FloatArray
    ) -> FloatArray:
        """Return the sum of the log probabilities of all classes being there or not, at each temperature, (G,)."""
        if not len(truth):
            return np.zeros(len(temperatures))
        signed = _logits(_probabilities(outputs, indices)) * np.where(np.asarray(truth) > 0.5, 1.0, -1.0)
        return np.array([float(-np.logaddexp(0.0, -signed / t).sum()) for t in temperatures])

    def agreement(self, first: Sequence[Prediction], second: Sequence[Prediction]) -> float | None:
        """Return Cohen's kappa over the decisions about each image and each class that either model names at all.

        None where it is not defined: without images, and where both models decide alike throughout, for all or none.
        """
        names = list(dict.fromkeys(chain(chain.from_iterable(first), chain.from_iterable(second))))
        decisions = [self.encode(predictions, names).ravel().astype(np.int64) for predictions in (first, second)]
        return cohen_kappa(*decisions)

    def tune(self, outputs: Outputs, truth: Encoded, classes: Sequence[str]) -> Decoding:
        """Return for each class the threshold of the highest F1, drawn towards the default where examples are few.

        The logit of the best threshold is multiplied by n / (n + PRIOR): n is the number of images with the class, or
        without it where those are fewer. Below FEWEST the default stays. Thresholds lie between LOWEST and 1 - LOWEST.
        """
        probabilities = _probabilities(outputs, np.arange(len(truth)))
        thresholds = [_threshold(p, np.asarray(t) > 0.5) for p, t in zip(probabilities.T, truth.T, strict=True)]
        return {"thresholds": thresholds}

    def at_temperature(self, decoding: Decoding, temperature: float) -> Decoding:
        """Return the thresholds of probabilities at a temperature."""
        if "thresholds" not in decoding:
            return decoding
        return {"thresholds": calibrate(np.asarray(decoding["thresholds"]), temperature).tolist()}

    def encode(self, targets: Sequence[Target], classes: Sequence[str]) -> Encoded:
        """Return 1 where an image has a class and 0 elsewhere, (n, C) float32."""
        ids = {name: number for number, name in enumerate(classes)}
        encoded = np.zeros((len(targets), len(classes)), np.float32)
        for row, target in zip(encoded, targets, strict=True):
            row[[ids[name] for name in target]] = 1.0
        return encoded

    def check(self, truth: Encoded, classes: int) -> None:
        """Raise BadInput for anything but 0 and 1, (n, classes)."""
        if truth.ndim != 2 or truth.shape[1] != classes or not np.isin(truth, (0, 1)).all():
            raise BadInput(f"found targets of shape {truth.shape} instead of 0 and 1 for each of {classes} classes")

    def head(self, width: int, classes: int) -> "nn.Module":
        """Return a linear layer, (B, width) -> (B, classes) logits."""
        from torch import nn

        return nn.Linear(width, classes)

    def loss(self, raw: "Tensor", truth: "Tensor", label_smoothing: float) -> "Tensor":
        """Return the binary cross-entropy of each image, (B, C) logits -> (B,): the sum over its classes.

        The mean would learn the slower the more classes there are: of 40, drawn as coloured patches on 400 images, the
        mean average precision was 0.41 instead of 0.65. Label smoothing moves 0 and 1 towards 0.5 by that share.
        """
        from torch.nn import functional

        smooth = truth * (1 - label_smoothing) + label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(raw, smooth, reduction="none").sum(dim=1)

    def outputs_of(self, raw: "Tensor") -> dict[str, "Tensor"]:
        """Return the sigmoid of the logits, (..., C), as ``class_probs``."""
        return {"class_probs": raw.sigmoid()}


def calibrate(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Return the probabilities (n, C) float32 at another temperature: their logits are divided by it."""
    scaled: FloatArray = (1.0 / (1.0 + np.exp(-_logits(probabilities) / temperature))).astype(np.float32)
    return scaled


def _probabilities(outputs: Outputs, indices: IntArray) -> FloatArray:
    if outputs.class_probs is None:
        raise BadInput("these outputs have no probabilities of single classes ('class_probs')")
    return np.asarray(outputs.class_probs[indices])


def _chosen(probabilities: FloatArray, decoding: Decoding) -> BoolArray:
    """Return which classes are predicted, (n, C)."""
    thresholds = np.asarray(decoding.get("thresholds", DEFAULT_THRESHOLD), np.float64)
    if thresholds.ndim and len(thresholds) != probabilities.shape[1]:
        raise BadInput(f"found {len(thresholds)} thresholds for {probabilities.shape[1]} classes")
    chosen: BoolArray = probabilities >= thresholds
    return chosen


def _expected_f1(probabilities: FloatArray, decoding: Decoding, temperature: float) -> FloatArray:
    chosen = _chosen(probabilities, decoding)
    p = probabilities if temperature == 1.0 else calibrate(probabilities, temperature)
    p = np.asarray(p, np.float64)
    count = chosen.sum(axis=1)
    f1 = 2 * (p * chosen).sum(axis=1) / np.maximum(count + p.sum(axis=1), _EDGE)
    expected: FloatArray = np.where(count, f1, (1 - p).prod(axis=1)).astype(np.float32)
    return expected


def _logits(probabilities: FloatArray) -> FloatArray:
    p = np.clip(np.asarray(probabilities, np.float64), _EDGE, 1 - _EDGE)
    logits: FloatArray = np.log(p) - np.log1p(-p)
    return logits


def _threshold(probabilities: FloatArray, present: BoolArray) -> float:
    """Return the threshold of one class from probabilities (n,) of images that the model was not trained on."""
    examples = int(min(present.sum(), (~present).sum()))
    if examples < FEWEST:
        return DEFAULT_THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    logits = np.concatenate([_logits(probabilities[order]), [-np.inf]])
    hits, taken = np.cumsum(present[order]), np.arange(1, len(order) + 1)
    f1 = np.where(logits[:-1] > logits[1:], 2 * hits / (taken + present.sum()), -1.0)  # no cut between equal ones
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    upper, lower = logits[best], logits[best + 1]  # every threshold between them predicts the same
    middle = (upper + np.where(np.isfinite(lower), lower, upper)) / 2
    cuts = np.where((lower < 0) & (upper >= 0), 0.0, middle)
    logit = float(cuts[np.abs(cuts).argmin()]) * examples / (examples + PRIOR)  # of several, the nearest to 0.5
    return round(float(np.clip(1 / (1 + np.exp(-logit)), LOWEST, 1 - LOWEST)), 4)


def _precedes(votes: Sequence[Target], first: str, second: str) -> bool:
    """Tell whether a vote names both classes, the first before the second."""
    return any(first in vote and second in vote and vote.index(first) < vote.index(second) for vote in votes)
