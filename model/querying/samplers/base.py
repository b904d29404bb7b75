"""The contract of a sampler: what is asked inside a batch once there is a main model."""

from typing import Protocol

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query


class Sampler(Protocol):
    """A query strategy.

    info: for people who choose. needs: the outputs of the pool that it reads (``model.querying.outputs``, derived ones
    too, or ``labels``); the learner computes only those.
    scores_are_ranks: its scores carry only the order, and may be spread anew; False where a score has a meaning of its
    own.
    """

    info: StrategyInfo
    needs: frozenset[str]
    scores_are_ranks: bool

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates to ask, or all where there are fewer, most wanted first."""
        ...
