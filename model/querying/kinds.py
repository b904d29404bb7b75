"""No two of a kind: which images a round may ask beside those that it and earlier rounds have asked.

Two images are of a kind if they are equal, or look nearly alike. To ask both teaches little; to train on one and
measure with the other makes a model look better than it is.
"""

from enum import IntEnum

import numpy as np

from model.querying.likeness import Likeness
from model.querying.outputs import BoolArray, IntArray
from model.querying.selection import mask_of


class Leave(IntEnum):
    """What is left to ask, from first choice to last: each step allows more.

    No step allows an image that equals another one of the round, or is of a kind with one of the holdout.
    """

    NEW = 0  # of a kind with nothing that was asked
    LIKE_ANSWERED = 1  # looks like an image that was answered
    EQUAL_TO_ANSWERED = 2
    LIKE_EACH_OTHER = 3  # looks like another one of the round


class Kinds:
    """The kinds of images in a pool.

    twins: (N,) the same number for equal images. likeness: which look nearly alike; None where nobody can tell.
    answered, held: pool indices that were answered, to learn from and to measure with.
    """

    def __init__(self, twins: IntArray, likeness: Likeness | None, answered: IntArray, held: IntArray) -> None:
        self._twins, self._likeness, self._answered, self.held = twins, likeness, answered, held

    def one_of_each(self, free: BoolArray, taken: IntArray, leave: Leave) -> BoolArray:
        """Return which of the ``free`` images, (N,), are left if equal ones of the round and before are left out.

        taken: pool indices that the round asks already.
        """
        away = [self.held, taken] if leave >= Leave.EQUAL_TO_ANSWERED else [self.held, taken, self._answered]
        members = np.flatnonzero(free & ~self._equal_to(np.concatenate(away)))
        _, first = np.unique(self._twins[members], return_index=True)
        return mask_of(members[first], len(free))

    def apart(self, candidates: IntArray, taken: IntArray, leave: Leave) -> BoolArray:
        """Return which of these images, (n,) in the order of choice, may be asked as far as their looks go."""
        away = [self.held] if leave == Leave.LIKE_EACH_OTHER else [self.held, taken]
        away += [self._answered] if leave == Leave.NEW else []
        apart = ~self._like(candidates, np.concatenate(away))
        if leave != Leave.LIKE_EACH_OTHER and self._likeness is not None:
            later, sooner = self._likeness.pairs(candidates, candidates)
            for i, j in sorted(zip(later.tolist(), sooner.tolist(), strict=True)):
                if j < i and apart[j]:
                    apart[i] = False
        return apart

    def measuring(self, candidates: IntArray, query: IntArray) -> IntArray:
        """Return those of these images that may measure what is learned from ``query`` and what is answered.

        None is of a kind with those, and none equals another one of the holdout.
        """
        learned = np.concatenate([self._answered, query])
        known = self._equal_to(np.concatenate([learned, self.held]))
        left = candidates[~known[candidates] & ~self._like(candidates, learned)]
        return left[np.sort(np.unique(self._twins[left], return_index=True)[1])]

    def of_held(self, candidates: IntArray) -> IntArray:
        """Return those of these images that are of a kind with the holdout, one of each that are equal."""
        alike = candidates[self._equal_to(self.held)[candidates] | self._like(candidates, self.held)]
        return alike[np.unique(self._twins[alike], return_index=True)[1]]

    def _equal_to(self, indices: IntArray) -> BoolArray:
        """Tell of every image of the pool whether it is, or equals, one of these, (N,)."""
        return mask_of(self._twins[indices], len(self._twins))[self._twins]

    def _like(self, candidates: IntArray, others: IntArray) -> BoolArray:
        if self._likeness is None:
            return np.zeros(len(candidates), np.bool_)
        return self._likeness.like_any(candidates, others)
