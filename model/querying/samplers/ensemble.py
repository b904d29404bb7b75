"""Uncertainty of the mean posterior of an ensemble (initial-pools paper, section 3.3: ENS-LC, ENS-MM, ENS-ME)."""

from collections.abc import Callable

import numpy as np

from model.problems.single_label import entropies, margins
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank

COST = "2.7, 3"

_CERTAINTY: dict[str, tuple[str, Callable[[FloatArray], FloatArray]]] = {
    "least_confidence": ("the lowest top posterior", lambda probs: probs.max(axis=1)),
    "margin": ("the two most likely classes are closest", margins),
    "entropy": ("the most spread posterior", lambda probs: -entropies(probs)),
}


class Ensemble:
    """Ask the images that the mean posterior of three networks is least certain of."""

    needs = frozenset({"ensemble_probs"})
    scores_are_ranks = True

    def __init__(self, measure: str) -> None:
        """Choose how certainty is measured: ``least_confidence``, ``margin`` or ``entropy``."""
        asks, self._certainty = _CERTAINTY[measure]
        self.info = StrategyInfo(f"{asks}, of the mean of three networks", "Beluch et al. 2018; Initial Pools", COST)

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the lowest certainty, ties by pool index."""
        mean = candidates.rows("ensemble_probs").mean(axis=0, dtype=np.float64)  # (T, n, C) -> (n, C)
        return query_by_rank(lowest(candidates.indices, self._certainty(mean), k)[0])
