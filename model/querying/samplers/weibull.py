"""Outliers under per-class Weibull distributions (DALBT, Algorithm 1; Mandivarapu, Camp and Estrada 2020)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray, IntArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank

LOWEST_SHAPE, HIGHEST_SHAPE = 1e-2, 1e4  # between which a Weibull shape is looked for
FEWEST = 3  # distances that a fit takes
ALONE = 60  # distances from which a class has a fit of its own: of fewer, fits differ by chance, and a class wins by it
SPREAD = 1e-3  # share of the largest distance by which they have to differ: less is rounding


class Weibull:
    """Ask the images farthest out in the latent distribution of the class whose mean is nearest.

    Per class: the mean latent of the labeled images that the model gets right, and a Weibull fitted to their distances
    from it. Each of these is measured to the mean of the others of its class, since one that contains it is too near
    to it, by a third with three images. Classes with fewer than ALONE of them share one fit.
    """

    info = StrategyInfo("outliers of the nearest class's distances", "DALBT")
    needs = frozenset({"probs", "embeddings", "labels"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest outlier probability; the order of a batch where no label helps."""
        labeled, labels = candidates.labeled()
        right = candidates.rows("probs", labeled).argmax(axis=1) == labels
        if not right.any():  # no class has a mean yet
            return query_by_rank(candidates.indices[:k])
        means, fits = _classes(candidates.rows("embeddings", labeled[right]), labels[right])
        latents = candidates.rows("embeddings")
        distances = np.stack([np.linalg.norm(latents - mean, axis=1) for mean in means])  # (classes, n)
        nearest = distances.argmin(axis=0)
        shape, scale = np.array(fits).T[:, nearest]
        # The probability is 1 - exp(-(d / scale) ** shape): its exponent has the same order and never saturates.
        exponent = shape * np.log(np.maximum(distances.min(axis=0), np.finfo(np.float32).tiny) / scale)
        return query_by_rank(lowest(candidates.indices, -exponent, k)[0])


def _classes(latents: FloatArray, labels: IntArray) -> tuple[FloatArray, list[tuple[float, float]]]:
    """Return the mean latent (classes, D) and the Weibull (shape, scale) of each class that occurs."""
    groups = [np.asarray(latents[labels == c], np.float64) for c in np.unique(labels)]
    distances = [distances_left_out(group) for group in groups]
    shared = fit_weibull(np.concatenate(distances)) or (1.0, 1.0)
    fits = [(fit_weibull(d) if len(d) >= ALONE else None) or shared for d in distances]
    return np.stack([group.mean(axis=0) for group in groups]), fits


def distances_left_out(group: FloatArray) -> FloatArray:
    """Return the distance of each row to the mean of the others: (n, D) -> (n,), none of a single row."""
    n = len(group)
    if n < 2:
        return np.empty(0)
    # The mean without a row lies on the other side of the mean with it: n / (n - 1) times as far from the row.
    left_out: FloatArray = np.linalg.norm(group - group.mean(axis=0), axis=1) * (n / (n - 1))
    return left_out


def fit_weibull(values: FloatArray) -> tuple[float, float] | None:
    """Return shape and scale of the two-parameter Weibull of highest likelihood; None where too few values differ.

    The shape c solves mean(x^c log x) / mean(x^c) - 1 / c = mean(log x), whose left side rises in c.
    """
    values = np.asarray(values, np.float64)
    values = values[values > 0]
    if len(values) < FEWEST or values.max() - values.min() <= SPREAD * values.max():
        return None
    top = values.max()  # scaled by it, no power overflows
    logs = np.log(values / top)
    shape = _root(logs)
    return shape, float(top * np.exp(shape * logs).mean() ** (1 / shape))


def _root(logs: FloatArray) -> float:
    """Return the shape that solves the equation of ``fit_weibull``, or the bound that is nearest to it."""
    from scipy.optimize import brentq  # imported here: few samplers need it

    def excess(shape: float) -> float:
        powers = np.exp(shape * logs)
        return float((powers * logs).sum() / powers.sum() - 1 / shape - logs.mean())

    if excess(LOWEST_SHAPE) >= 0:
        return LOWEST_SHAPE
    if excess(HIGHEST_SHAPE) <= 0:
        return HIGHEST_SHAPE
    return float(brentq(excess, LOWEST_SHAPE, HIGHEST_SHAPE, xtol=1e-12, rtol=1e-10))
