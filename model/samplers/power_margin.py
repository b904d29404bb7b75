"""Margin with Gumbel noise (the power acquisition of Kirsch et al. 2023, Stochastic Batch Acquisition)."""

import numpy as np

from model.samplers.margin import margins
from model.selection import Candidates, Query, lowest, ranked


class PowerMargin:
    """Draw images without replacement, each with a chance in proportion to one minus its margin.

    A weak model finds nearly every image uncertain, and the draw is nearly uniform; a good one is unsure of few, and
    the draw is nearly theirs alone. Copies of one uncertain scene do not fill a round, as they do under a plain sort.
    """

    needs = frozenset({"probs"})
    ranked = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates of the highest log(1 - margin) plus Gumbel noise (Gumbel-top-k)."""
        chance = np.maximum(1.0 - margins(candidates.rows("probs")), np.finfo(np.float64).tiny)
        keys = np.log(chance) + generator.gumbel(size=len(chance))
        return ranked(lowest(candidates.indices, -keys, k)[0])
