"""Core-set by greedy k-center (Sener and Savarese 2018, Algorithm 1)."""

import numpy as np

from model.querying.distances import to_nearest
from model.querying.info import StrategyInfo
from model.querying.selection import Candidates, Query, query_by_rank


class CoreSet:
    """Ask, one after the other, the image farthest from everything that is labeled or asked.

    Memory grows with the number of candidates, never with pairs of them.
    """

    info = StrategyInfo("the farthest from all that is labeled or asked (greedy k-center)", "Sener and Savarese 2018")
    needs = frozenset({"embeddings"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates that cover the embedding space; the first is drawn where nothing is covered yet."""
        return query_by_rank(candidates.indices[k_center(candidates, "embeddings", k, generator)])


def k_center(candidates: Candidates, need: str, k: int, generator: np.random.Generator) -> list[int]:
    """Return the positions of ``k`` candidates by greedy k-center among the rows of an output of the pool."""
    x = np.asarray(candidates.rows(need), np.float32)
    norms = np.einsum("nd,nd->n", x, x)
    nearest = to_nearest(x, np.asarray(candidates.rows(need, candidates.covered), np.float32))
    picks: list[int] = []
    for _ in range(min(k, len(x))):
        blank = not picks and not len(candidates.covered)
        pick = int(generator.integers(len(x))) if blank else int(nearest.argmax())
        picks.append(pick)
        nearest = np.minimum(nearest, np.maximum(norms + norms[pick] - 2 * (x @ x[pick]), 0))
        nearest[picks] = -1  # below every distance: never again, not even among copies of one image
    return picks
