"""The contract of a first query: what is asked before there is any label."""

from typing import Protocol

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query


class FirstQuery(Protocol):
    """A choice among the images of a batch from what self-supervision knows of them.

    info: for people who choose. needs: the outputs of the pool that it reads (``model.querying.outputs``). by_losses:
    whether it goes by the pretext losses, which the first round then waits for.
    """

    info: StrategyInfo
    needs: frozenset[str]
    by_losses: bool

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates to ask, or all where there are fewer, most wanted first."""
        ...
