"""Variational adversarial active learning (VAAL, Sinha, Ebrahimi and Darrell 2019)."""

import numpy as np

from model.querying.selection import Candidates, Query, lowest, ranked


class Vaal:
    """Ask the images of which a discriminator is surest that nothing like them is labeled."""

    needs = frozenset({"labeled_probability"})
    ranked = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates with the lowest probability to be labeled."""
        return ranked(lowest(candidates.indices, candidates.rows("labeled_probability"), k)[0])
