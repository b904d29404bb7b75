"""What one more round of labels would add, with its uncertainty, and whether that is worth it.

A holdout of some dozens of images cannot tell 0.5 points from 2 by comparing two intervals. Three things together can:

- the learning curve falls off: the error after n labels is taken for ``floor + rest * n ** -exponent``;
- both models of a pair are measured on the same holdout, so that only images count on which their qualities differ;
- two models that agree on the unlabeled pool cannot differ much in quality, however few images are measured.

The posterior of the curve is computed on a grid, and the gain of the next round read from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

from model.errors import BadInput
from model.evaluation.metrics import ROUNDING, variance_ratio
from model.querying.outputs import FloatArray

Advice = Literal["continue", "stop", "unknown"]

WORTH = 0.005  # mean quality below which another round is not worth its labels
SURE = 0.02  # mean quality that another round must not be able to add for "stop"
MIN_HOLDOUT = 20  # images below which nobody should be told to stop
CONFIDENCE = 0.95
NOISE = 0.015  # deviation of a model's mean quality when it is trained anew, as a share of sqrt(error (1 - error))
NOISE_FLOOR = 0.002  # and at least so much
NET = 0.3  # share of the images on which two successive models differ that is gained, less what is lost
NET_SD = 0.25

_Q = np.array([NormalDist().inv_cdf((i + 0.5) / 15) for i in range(15)])  # a normal distribution in 15 equal parts


@dataclass(frozen=True)
class RoundResult:
    """A round's model: the labels it was trained on, and what the holdout says.

    size: labeled holdout images. quality, squares: sums over them of the qualities of the model's predictions, from 0
    to 1 each, and of their squares. change, change_squares: sums over the same images of the differences in quality to
    the model before, and of their squares; None where nobody compared them. agreement: with the model before, on
    unlabeled images, 1 throughout; None without one.
    """

    labels: int
    size: int
    quality: float
    squares: float
    change: float | None = None
    change_squares: float | None = None
    agreement: float | None = None

    def __post_init__(self) -> None:
        """Raise BadInput for numbers that do not fit together."""
        variance_ratio(self.quality, self.squares, self.size)
        if self.labels < 0 or self.size < 0 or (self.change is None) != (self.change_squares is None):
            raise BadInput(f"no model is measured like this: {self}")
        if self.change is not None and self.change_squares is not None:
            tolerance = ROUNDING * max(self.size, 1)
            largest = self.size * self.change_squares
            if not (self.change_squares <= self.size + tolerance and self.change**2 <= largest + tolerance):
                raise BadInput(f"no two models differ like this: {self}")


@dataclass(frozen=True)
class GainForecast:
    """What ``labels`` more labels would add to the mean quality: ``gain``, and its 95% interval ``low`` to ``high``."""

    labels: int
    gain: float
    low: float
    high: float
    advice: Advice


def forecast_gain(history: Sequence[RoundResult], labels: int) -> GainForecast | None:
    """Return what a round of ``labels`` more would add after the last model; None while nothing can be said.

    That is so without two models that were compared. history: one entry a model, in their order.
    """
    known = [entry for entry in history if entry.labels > 0]
    steps = [step for pair in pairwise(known) if (step := _step(*pair)) is not None]
    if not steps or labels < 1 or not known[-1].size:
        return None
    grid = _grid()
    weight = np.exp(_log_posterior(grid, known[-1], steps))
    now = known[-1].labels
    gains = grid.error(1.0) - grid.error((now + labels) / now)
    mean = float((weight * gains).sum() / weight.sum())
    low, high = _interval(gains, np.sqrt(grid.noise), weight)
    return GainForecast(labels, mean, low, high, _advice(known[-1].size, mean, high))


def _advice(size: int, gain: float, high: float) -> Advice:
    if gain >= WORTH:
        return "continue"
    return "stop" if size >= MIN_HOLDOUT and high < SURE else "unknown"


@dataclass(frozen=True)
class _Step:
    """From one model to the next: labels before and after, and what is known of the gain, each with its deviation."""

    before: int
    after: int
    gain: float
    deviation: float
    changed: float | None  # 1 - kappa, about the share of images on which the two differ


def _step(before: RoundResult, after: RoundResult) -> _Step | None:
    if after.labels <= before.labels or not after.size:
        return None
    changed = None if after.agreement is None else min(max(1 - after.agreement, 0.0), 1.0)
    n = after.size
    if after.change is not None and after.change_squares is not None:
        # One more image of which exactly one is right: a handful that both get right do not prove them equal.
        variance = ((after.change_squares + 1) / n - (after.change / n) ** 2) / n
        return _Step(before.labels, after.labels, after.change / n, sqrt(variance), changed)
    if not before.size:
        return None
    shares = [(entry.quality + 1) / (entry.size + 2) for entry in (before, after)]
    variance = sum(
        p * (1 - p) * variance_ratio(entry.quality, entry.squares, entry.size) / entry.size
        for p, entry in zip(shares, (before, after), strict=True)
    )
    return _Step(before.labels, after.labels, shares[1] - shares[0], sqrt(variance), changed)


@dataclass(frozen=True)
class _Grid:
    """Learning curves: every array (G,).

    now: error of the newest model. exponent: of the power law. floor: share of ``now`` that labels cannot take away.
    """

    now: FloatArray
    exponent: FloatArray
    floor: FloatArray

    @property
    def noise(self) -> FloatArray:
        """Return the variance (G,) of a gain that comes from the luck of both models' trainings."""
        variance: FloatArray = 2 * (NOISE**2 * self.now * (1 - self.now) + NOISE_FLOOR**2)
        return variance

    def error(self, ratio: float) -> FloatArray:
        """Return the error (G,) at ``ratio`` times the newest model's labels."""
        error: FloatArray = np.minimum(self.now * (self.floor + (1 - self.floor) * ratio**-self.exponent), 1.0)
        return error


@cache
def _grid() -> _Grid:
    odds = np.linspace(-6.0, 2.5, 60)  # errors of 0.2% to 92%, evenly in the logit
    axes = np.meshgrid(1 / (1 + np.exp(-odds)), np.linspace(0.0, 1.5, 31), [0.0, 0.3, 0.6, 0.8, 0.9], indexing="ij")
    return _Grid(*(axis.ravel() for axis in axes))


def _log_posterior(grid: _Grid, newest: RoundResult, steps: Sequence[_Step]) -> FloatArray:
    """Return the log posterior (G,), its largest value 0; the prior is even over the grid."""
    # Qualities that lie closer together than 0 and 1 count for more images: see metrics.mean_interval.
    scale = variance_ratio(newest.quality, newest.squares, newest.size)
    good, bad = newest.quality / scale, (newest.size - newest.quality) / scale
    log = bad * np.log(grid.now) + good * np.log1p(-grid.now)
    for step in steps:
        gain = grid.error(step.before / newest.labels) - grid.error(step.after / newest.labels)
        log -= 0.5 * (gain - step.gain) ** 2 / (step.deviation**2 + grid.noise) + 0.5 * np.log(
            step.deviation**2 + grid.noise
        )
        if step.changed is not None:
            spread = (NET_SD * step.changed) ** 2 + grid.noise
            log -= 0.5 * (gain - NET * step.changed) ** 2 / spread + 0.5 * np.log(spread)
    shifted: FloatArray = log - log.max()
    return shifted


def _interval(gains: FloatArray, noise: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Return the interval in which the next model's gain lies, the luck of its own training included."""
    likely = weight > 1e-7
    values = (gains[likely, None] + noise[likely, None] * _Q).ravel()
    order = np.argsort(values)
    share = np.cumsum(np.repeat(weight[likely], len(_Q))[order])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.searchsorted(share, [tail * share[-1], (1 - tail) * share[-1]])
    return float(values[order[low]]), float(values[order[min(high, len(order) - 1)]])
