"""Honest confidences: a temperature fitted to images that the model was never trained on, and what follows from it."""

from dataclasses import dataclass

import numpy as np

from model.errors import BadInput
from model.querying.outputs import BoolArray, FloatArray, IntArray

PRIOR_SD = 0.35  # of log T: a few dozen images must not make a model twice as sure as it says
CHUNK = 65_536  # rows of posteriors at a time, so that memory does not grow with the pool
MANY = 5_000  # images behind the interval of the errors; of more, every n-th stands for its neighbours
_TINY = 1e-12

_LOG_T = np.linspace(-1.6, 1.6, 81)  # T from 0.2 to 5


@dataclass(frozen=True)
class Temperature:
    """By what a model's logits are to be divided: the most likely value, and how likely others are.

    values, weights: (G,) temperatures and their posterior, which sums to 1.
    """

    value: float
    values: FloatArray
    weights: FloatArray


def fit_temperature(probs: FloatArray, truth: IntArray) -> Temperature:
    """Fit a temperature to posteriors of held-out images. Source: Guo et al. 2017, section 4.2.

    probs: (n, C). truth: (n,) class ids. With few images a prior around 1 keeps it close to what the model says itself;
    without any, T is 1.
    """
    if len(probs) != len(truth):
        raise BadInput(f"found {len(probs)} posteriors and {len(truth)} classes")
    log = np.log(np.maximum(np.asarray(probs, np.float64), _TINY))
    score = -0.5 * (_LOG_T / PRIOR_SD) ** 2
    if len(truth):
        own = log[np.arange(len(truth)), truth]
        score += [float((own / t - _log_sum_exp(log / t)).sum()) for t in np.exp(_LOG_T)]
    weights = np.exp(score - score.max())
    return Temperature(float(np.exp(_LOG_T[score.argmax()])), np.exp(_LOG_T), weights / weights.sum())


def calibrate(probs: FloatArray, temperature: float) -> FloatArray:
    """Return the posteriors (n, C) at another temperature; the order of the classes stays."""
    log = np.log(np.maximum(probs, _TINY)) / temperature
    scaled = np.exp(log - log.max(axis=1, keepdims=True))
    found: FloatArray = (scaled / scaled.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def guess(probs: FloatArray, temperature: float) -> tuple[IntArray, FloatArray]:
    """Return the likeliest class (n,) of each image, and its calibrated confidence (n,) float32.

    probs: (n, C), perhaps a memory map of more than fits the memory.
    """
    best = np.empty(len(probs), np.int64)
    confidence = np.empty(len(probs), np.float32)
    for start in range(0, len(probs), CHUNK):
        part = slice(start, start + CHUNK)
        rows = np.asarray(probs[part], np.float32)
        best[part] = rows.argmax(axis=1)
        confidence[part] = calibrate(rows, temperature).max(axis=1)
    return best, confidence


@dataclass(frozen=True)
class Errors:
    """How many of some predictions are wrong: the expected number, and its 95% interval."""

    expected: float
    low: float
    high: float


def expected_errors(probs: FloatArray, chosen: BoolArray, temperature: Temperature) -> Errors:
    """Return how many of the ``chosen`` images' predictions are wrong, by their calibrated confidence.

    probs: (n, C). chosen: (n,). The interval covers what is not known of the temperature, and chance.
    """
    indices = np.flatnonzero(chosen)
    if not len(indices):
        return Errors(0.0, 0.0, 0.0)
    step = 1 + len(indices) // MANY
    log = np.log(np.maximum(np.asarray(probs[indices[::step]], np.float64), _TINY))
    scale = len(indices) / len(log)
    likely = temperature.weights > 1e-3 * temperature.weights.max()
    weights = temperature.weights[likely] / temperature.weights[likely].sum()
    doubt = np.array([1 - np.exp(log.max(axis=1) / t - _log_sum_exp(log / t)) for t in temperature.values[likely]])
    means = scale * doubt.sum(axis=1)
    expected = float(weights @ means)
    chance = float(weights @ (scale * (doubt * (1 - doubt)).sum(axis=1)))
    spread = 1.96 * np.sqrt(chance + float(weights @ (means - expected) ** 2))
    return Errors(expected, max(expected - spread, 0.0), min(expected + spread, float(len(indices))))


def _log_sum_exp(log: FloatArray) -> FloatArray:
    most = log.max(axis=1)
    found: FloatArray = most + np.log(np.exp(log - most[:, None]).sum(axis=1))
    return found
