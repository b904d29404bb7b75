"""Uniform draw: the control that every claim is measured against."""

import numpy as np

from model.querying.selection import Candidates, Query, ranked


class Random:
    """Ask images drawn uniformly without replacement."""

    needs: frozenset[str] = frozenset()
    ranked = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` random candidates in random order."""
        return ranked(generator.permutation(candidates.indices)[:k])
