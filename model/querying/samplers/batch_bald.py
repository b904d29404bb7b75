"""BatchBALD: mutual information of the model and a whole query (Kirsch, van Amersfoort and Gal 2019)."""

import numpy as np

from model.problems.single_label import entropies
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank

CONFIGURATIONS = 1_000  # of classes that are followed one by one; of more, so many are drawn
CANDIDATES = 1_000  # of the highest mutual information, or twice what is asked: each pick looks at all of them
BLOCK = 1 << 22  # entries of a table of joint probabilities at once: 32 MB


class BatchBald:
    """Ask, one after the other, the image that adds most to the mutual information of the query and the weights.

    As ``bald``, but an image whose answer those picked already tell adds nothing. The joint entropy of the query is
    exact while the picked images have at most CONFIGURATIONS configurations of classes, and estimated from as many
    draws after it.
    """

    info = StrategyInfo(
        "20 passes with dropout, as `bald` has them, disagree on it and not on what is asked already",
        "Kirsch et al. 2019",
    )
    needs = frozenset({"dropout_probs"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates, each the one of the largest gain among those of the highest mutual information."""
        passes = np.asarray(candidates.rows("dropout_probs"), np.float64).transpose(1, 0, 2)  # (n, T, C)
        information = entropies(passes.mean(axis=1)) - entropies(passes).mean(axis=1)
        best = np.sort(lowest(np.arange(len(passes)), -information, max(CANDIDATES, 2 * k))[0])
        return query_by_rank(candidates.indices[best[batch_bald(passes[best], min(k, len(best)), generator)]])


def batch_bald(passes: FloatArray, k: int, generator: np.random.Generator) -> list[int]:
    """Return ``k`` rows of ``passes`` (n, T, C), each the one of the largest joint mutual information (Algorithm 1).

    That of rows y_1 ... y_b is H(y_1, ..., y_b) - sum_i E_w H(y_i | w): given the weights w of a pass, the answers are
    independent (Eq. 8, 11 and 12).
    """
    conditional = entropies(passes).mean(axis=1)  # (n,)
    joint: FloatArray = np.ones(
        (1, passes.shape[1])
    )  # (M, T): probability of each configuration of the picks in each pass
    weights: FloatArray = np.ones(
        1
    )  # of each configuration: 1 while all are followed, 1 / (M p) where they were drawn by p
    picks: list[int] = []
    for _ in range(k):
        gain = joint_entropies(passes, joint, weights) - conditional
        gain[picks] = -np.inf
        picks.append(int(gain.argmax()))
        joint, weights = _extended(joint, weights, passes[picks[-1]], generator)
    return picks


def joint_entropies(passes: FloatArray, joint: FloatArray, weights: FloatArray) -> FloatArray:
    """Return H(y_1, ..., y_b, y) for each row as y, in nats, up to a constant where configurations were drawn.

    passes: (n, T, C). joint: (M, T). weights: (M,), see ``batch_bald``.
    """
    n, t, c = passes.shape
    entropies = np.empty(n)
    step = max(1, BLOCK // (len(joint) * c))
    for start in range(0, n, step):
        part = passes[start : start + step]
        mean = (joint @ part.transpose(1, 0, 2).reshape(t, -1)).reshape(len(joint), len(part), c) / t
        terms = -(mean * np.log(np.maximum(mean, np.finfo(np.float64).tiny))).sum(axis=2)  # (M, rows)
        entropies[start : start + step] = weights @ terms
    return entropies


def _extended(
    joint: FloatArray, weights: FloatArray, passes: FloatArray, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return the configurations with one row (T, C) more; draws of them where they would be too many."""
    more = (joint[:, None, :] * passes.T[None]).reshape(-1, len(passes))  # (M C, T)
    spread = np.repeat(weights, passes.shape[1])
    if len(more) <= CONFIGURATIONS:
        return more, spread
    shares = spread * more.mean(axis=1)
    total = float(shares.sum())
    drawn = generator.choice(len(more), CONFIGURATIONS, p=shares / total)
    # Importance weights: a sum over all configurations is the mean over draws of value / share.
    return more[drawn], spread[drawn] * total / (CONFIGURATIONS * shares[drawn])
