"""Wasserstein adversarial active learning (WAAL, Shui, Zhou, Gagne and Wang 2020)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank

DIVERSITY = 10.0  # weight of the critic against the uncertainty (the authors' code, for CIFAR-10)
SMALLEST = 1e-12  # a posterior of zero is taken for this: its logarithm is finite


class Waal:
    """Ask the images that the model doubts and whose features a critic tells from those of labeled images.

    The critic is trained with the main model, whose features are to leave it no difference.
    """

    info = StrategyInfo(
        "the model doubts it, and a critic that is trained against the network finds nothing like it labeled",
        "Shui et al. 2020",
        "1.9, 1",
    )
    needs = frozenset({"probs", "critic"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the lowest score, ties by pool index."""
        score = loss_bound(candidates.rows("probs")) - DIVERSITY * np.asarray(candidates.rows("critic"), np.float64)
        return query_by_rank(lowest(candidates.indices, score, k)[0])


def loss_bound(probs: FloatArray) -> FloatArray:
    """Return the mean of the l1 and the l2 norm of the losses of all classes, (n, C) -> (n,): the lower, the less sure.

    Both bound the loss that an unknown label may have (section 5.1), and are least where all classes are as likely.
    """
    losses = -np.log(np.maximum(np.asarray(probs, np.float64), SMALLEST))
    bound: FloatArray = 0.5 * losses.sum(axis=1) + 0.5 * np.linalg.norm(losses, axis=1)
    return bound
