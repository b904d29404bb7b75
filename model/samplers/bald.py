"""BALD by dropout (Gal, Islam and Ghahramani 2017; the DBAL of the initial-pools paper)."""

import numpy as np

from model.distances import BLOCK
from model.samplers.entropy import entropy
from model.selection import Candidates, Query, lowest, ranked


class Bald:
    """Ask the images on which stochastic passes are each sure and disagree: mutual information of label and model."""

    needs = frozenset({"mc_probs"})
    ranked = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest entropy of the mean minus mean of the entropies."""
        passes = candidates.rows("mc_probs")
        step = max(1, BLOCK // max(passes.shape[0] * passes.shape[2], 1))
        information = np.empty(passes.shape[1])
        for start in range(0, len(information), step):
            part = passes[:, start : start + step]
            information[start : start + step] = entropy(part.mean(axis=0)) - entropy(part).mean(axis=0)
        return ranked(lowest(candidates.indices, -information, k)[0])
