"""Pretext-based active learning (PAL: Bhatnagar, Goyal, Tank and Sethi 2021), on features of the main model."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, mask_of, query_by_rank

SUB_QUERIES = 5  # parts of a query, about as many as in the authors' code: 512 of 2,500 images
REFINED = 5  # gradient steps on what is asked so far, before the next part (theirs: 5 epochs)
DECAY = 5e-4  # of the head's weights (the same)
STEPS = 100  # at most, of the optimizer that trains the head
TINY = 1e-12  # a posterior of zero is taken for this


class Pal:
    """Ask doubtful images whose way up a head tells badly that has learned it on the labeled images alone.

    The paper has a scoring network of its own with two heads, for rotation and for the classes. Here the main model's
    features stand for that network and its posterior for the second head, so that one network learns the task and
    scores, which the paper avoids. The score is that of the authors' code, with all weights at 1 as theirs: minus the
    probabilities of the four right ways up, minus the divergence of an even posterior from the image's. A query has
    SUB_QUERIES parts; before each but the first, the rotation head is refined on what is asked so far, and minus its
    probabilities are added to the first score.
    """

    info = StrategyInfo(
        "a rotation head of the labeled images fails on it, and the model doubts it; on the network's features",
        "Bhatnagar et al. 2021",
        "1, 4 and 4 s",
    )
    needs = frozenset({"probs", "turned_embeddings", "labels"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates of the highest score, part after part, ties by index."""
        labeled, _ = candidates.labeled()
        turned = candidates.rows("turned_embeddings")
        known = candidates.rows("turned_embeddings", labeled)
        x, weights = centred(turned, known), fitted(centred(known, known))
        first = -right_way_up(x, weights) - divergence_of_even(candidates.rows("probs"))
        wanted, picks = first, np.empty(0, np.int64)
        part = max(1, -(-k // SUB_QUERIES))
        while len(picks) < min(k, len(x)):
            if len(picks):
                wanted = first - right_way_up(x, refined(x[picks], weights))
            left = np.flatnonzero(~mask_of(picks, len(x)))
            order = left[np.lexsort((candidates.indices[left], -wanted[left]))]
            picks = np.concatenate([picks, order[: min(part, k - len(picks))]])
        return query_by_rank(candidates.indices[picks])


def divergence_of_even(probs: FloatArray) -> FloatArray:
    """Return the Kullback-Leibler divergence of the even distribution from each posterior in bits, (n, C) -> (n,)."""
    probs = np.asarray(probs, np.float64)
    bits: FloatArray = -np.log2(np.maximum(probs, TINY) * probs.shape[1]).mean(axis=1)
    return bits


def centred(turned: FloatArray, known: FloatArray) -> FloatArray:
    """Return features about the mean of the labeled images' in units of their spread, with a constant behind them.

    turned: (n, T, D). known: (m, T, D), of the labeled images. Returns (n, T, D + 1).
    """
    mean = known.mean(axis=(0, 1)) if len(known) else np.zeros(turned.shape[2], np.float32)
    spread = float(np.sqrt(np.square(known - mean).sum(axis=2).mean())) if len(known) else 0.0
    return np.concatenate([(turned - mean) / (spread or 1.0), np.ones((*turned.shape[:2], 1), np.float32)], axis=2)


def fitted(x: FloatArray) -> FloatArray:
    """Return the weights (D + 1, T) of a softmax head that tells how an image is turned; zeros without images.

    x: (m, T, D + 1), by image and turn.
    """
    from scipy.optimize import minimize  # imported here: few samplers need it

    shape = (x.shape[2], x.shape[1])
    if not len(x):
        return np.zeros(shape)

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        weights = flat.reshape(shape)
        right = np.maximum(_turns(x, weights)[:, np.arange(shape[1]), np.arange(shape[1])], TINY)
        value = -float(np.log(right).mean()) + DECAY / 2 * float(np.square(weights).sum())
        return value, (slope(x, weights) + DECAY * weights).ravel()

    found = minimize(loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    weights: FloatArray = found.x.reshape(shape).astype(x.dtype)
    return weights


def refined(x: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weights after REFINED gradient steps on these images, (m, T, D + 1).

    Their rate cannot overshoot: the slope of the cross-entropy changes by at most half the mean squared length of the
    rows.
    """
    rate = 2.0 / float(np.square(x).sum(axis=2).mean())
    for _ in range(REFINED):
        weights = weights - rate * slope(x, weights)
    return weights


def slope(x: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the gradient of the mean cross-entropy by the weights, (m, T, D + 1) and (D + 1, T) -> (D + 1, T)."""
    errors = _turns(x, weights) - np.eye(x.shape[1])
    gradient: FloatArray = np.einsum("mtd,mtc->dc", x, errors, optimize=True) / (x.shape[0] * x.shape[1])
    return gradient


def right_way_up(x: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the sum of the probabilities of the right turns of each image, (n, T, D + 1) -> (n,) in [0, T]."""
    right: FloatArray = np.trace(_turns(x, weights), axis1=1, axis2=2)
    return right


def _turns(x: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the posterior of the turn of each row, (n, T, D + 1) -> (n, T, T)."""
    raw = x @ weights
    raw = np.exp(raw - raw.max(axis=2, keepdims=True))
    posterior: FloatArray = raw / raw.sum(axis=2, keepdims=True)
    return posterior
