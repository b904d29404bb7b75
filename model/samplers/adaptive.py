"""Random images while the model is weak, uncertain ones once it is not."""

import numpy as np

from model.samplers.margin import Margin
from model.samplers.random import Random
from model.selection import Candidates, Query

ABLE = 0.5  # of the way from guessing to always right


class Adaptive:
    """Draw images until the model can be trusted with the choice, then ask by margin.

    A model that is mostly wrong does not know what it does not know: asking by its doubts is then no better than
    drawing, or worse (docs/method.md; Hacohen, Dekel and Weinshall 2022 give the theory of it). The holdout says which
    of the two it is. Where no holdout is kept, nothing speaks against the model, and its margins count at once.
    """

    needs = frozenset({"probs"})
    ranked = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates, drawn or by margin."""
        way = Margin() if able(candidates) else Random()
        return way.select(candidates, k, generator)


def able(candidates: Candidates) -> bool:
    """Tell whether the model is right about its holdout at least half as often, beyond guessing, as it could be."""
    truth = candidates.holdout_labels
    held = np.flatnonzero(truth >= 0) if truth is not None else np.empty(0, np.int64)
    if truth is None or not len(held):
        return True
    probs = candidates.rows("probs", held)
    chance = 1 / probs.shape[1]
    right = float((probs.argmax(axis=1) == truth[held]).mean())
    return bool(right >= chance + ABLE * (1 - chance))
