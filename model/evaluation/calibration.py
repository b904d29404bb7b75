"""Honest confidences: a temperature fitted to images that the model was never trained on, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import BadInput
from model.problems.base import Decoding, Encoded, Prediction, Problem
from model.querying.outputs import BoolArray, FloatArray, IntArray, Outputs

PRIOR_SD = 0.35  # of log T: a few dozen images must not make a model twice as sure as it says
TINY = 1e-6  # how near to 0 and 1 a score may come: its logit is finite
MANY = 5_000  # images behind the interval of the errors; of more, every n-th stands for its neighbours
_LOG_T = np.linspace(-1.6, 1.6, 81)  # T from 0.2 to 5


@dataclass(frozen=True)
class Temperature:
    """By what a model's logits are to be divided: the most likely value, and how likely others are.

    values, weights: (G,) temperatures and their posterior, which sums to 1.
    """

    value: float
    values: FloatArray
    weights: FloatArray


@dataclass(frozen=True)
class Sigmoid:
    """What makes chances of scores: slope * logit + offset, through the logistic function."""

    slope: float = 1.0
    offset: float = 0.0

    def apply(self, scores: FloatArray) -> FloatArray:
        """Return the chances, of the same shape as the scores."""
        chances: FloatArray = 1 / (1 + np.exp(-(self.slope * _logits(scores) + self.offset)))
        return chances


def fit_sigmoid(scores: FloatArray, hits: BoolArray, steps: int = 50) -> Sigmoid:
    """Fit the chance that a score (n,) is a hit. Source: Platt 1999, by Newton's method.

    A prior of one pseudo-observation keeps both near what the scores say themselves.
    """
    x = np.stack([_logits(scores), np.ones(len(scores))], axis=1)
    start = np.array([1.0, 0.0])
    weights = start.copy()
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(x @ weights)))
        gradient = x.T @ (p - np.asarray(hits, np.float64)) + (weights - start)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights -= step / max(1.0, float(np.abs(step).max()))  # no step beyond 1: far out, the curve is flat
        if np.abs(step).max() < 1e-6:
            break
    return Sigmoid(float(max(weights[0], 0.05)), float(weights[1]))


def _logits(scores: FloatArray) -> FloatArray:
    p = np.clip(np.asarray(scores, np.float64), TINY, 1 - TINY)
    logits: FloatArray = np.log(p) - np.log1p(-p)
    return logits


def fit_temperature(problem: Problem, outputs: Outputs, indices: IntArray, truth: Encoded) -> Temperature:
    """Fit a temperature to what a model says of held-out images. Source: Guo et al. 2017, section 4.2.

    indices: (n,) of the held-out images in ``outputs``. truth: (n, ...) their encoded targets. With few images a prior
    around 1 keeps it close to what the model says itself; without any, T is 1.
    """
    if len(indices) != len(truth):
        raise BadInput(f"found {len(indices)} held-out images and {len(truth)} targets")
    score = -0.5 * (_LOG_T / PRIOR_SD) ** 2 + problem.log_likelihood(outputs, indices, truth, np.exp(_LOG_T))
    weights = np.exp(score - score.max())
    return Temperature(float(np.exp(_LOG_T[score.argmax()])), np.exp(_LOG_T), weights / weights.sum())


def predict(
    problem: Problem,
    outputs: Outputs,
    indices: IntArray,
    classes: Sequence[str],
    decoding: Decoding,
    temperature: float,
) -> tuple[list[Prediction], FloatArray]:
    """Return the prediction of each of these images, and its calibrated confidence (n,) float32."""
    predictions = problem.decode(outputs, indices, classes, decoding)
    return predictions, problem.confidence(outputs, indices, decoding, temperature)


@dataclass(frozen=True)
class Errors:
    """How much quality some predictions lack: the expected sum, and its 95% interval.

    Where predictions are right or wrong, it is the number of wrong ones.
    """

    expected: float
    low: float
    high: float


def expected_errors(
    problem: Problem, outputs: Outputs, chosen: BoolArray, temperature: Temperature, decoding: Decoding
) -> Errors:
    """Return how much quality the ``chosen`` images' predictions lack, by their calibrated confidence.

    chosen: (n,), the first n images of ``outputs``. The interval covers what is not known of the temperature, and
    chance, as large as it is for predictions that are right or wrong.
    """
    indices = np.flatnonzero(chosen)
    if not len(indices):
        return Errors(0.0, 0.0, 0.0)
    step = 1 + len(indices) // MANY
    drawn = indices[::step]
    scale = len(indices) / len(drawn)
    likely = temperature.weights > 1e-3 * temperature.weights.max()
    weights = temperature.weights[likely] / temperature.weights[likely].sum()
    doubt = np.array(
        [1 - problem.confidence(outputs, drawn, decoding, t).astype(np.float64) for t in temperature.values[likely]]
    )
    means = scale * doubt.sum(axis=1)
    expected = float(weights @ means)
    chance = float(weights @ (scale * (doubt * (1 - doubt)).sum(axis=1)))
    spread = 1.96 * np.sqrt(chance + float(weights @ (means - expected) ** 2))
    return Errors(expected, max(expected - spread, 0.0), min(expected + spread, float(len(indices))))
