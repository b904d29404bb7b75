"""Class balance by pseudo-labels (the class-balanced sampler of PT4AL's released code, get_plabels)."""

import heapq

import numpy as np

from model.evaluation.metrics import class_histogram
from model.querying.info import StrategyInfo
from model.querying.outputs import IntArray
from model.querying.selection import Candidates, Query, query_by_rank


class ClassBalanced:
    """Ask the least confident images of the class that has the fewest labels, class by guessed class.

    The released code fills equal quotas of pseudo-labels in the order of the batch. Here the labels given so far count
    too, then what is asked already by its guessed class; and inside a class the least confident image comes first.
    """

    info = StrategyInfo("the least confident of the guessed class with the fewest labels", "PT4AL's code")
    needs = frozenset({"probs"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates whose guessed classes level out the labels; ties go to the lower class id."""
        probs = candidates.rows("probs")
        classes = probs.shape[1]
        guess, top = probs.argmax(axis=1), probs.max(axis=1)
        given = _given(candidates, classes)
        by_confidence = np.lexsort((candidates.indices, top))
        waiting = [by_confidence[guess[by_confidence] == c].tolist()[::-1] for c in range(classes)]
        heap = [(int(given[c]), c) for c in range(classes) if waiting[c]]
        heapq.heapify(heap)
        picks: list[int] = []
        while heap and len(picks) < k:
            count, c = heapq.heappop(heap)
            picks.append(waiting[c].pop())
            if waiting[c]:
                heapq.heappush(heap, (count + 1, c))
        return query_by_rank(candidates.indices[picks])


def _given(candidates: Candidates, classes: int) -> IntArray:
    """Return how many images of each class are labeled, or answered or asked and guessed to be of it, (classes,)."""
    labels = np.full(len(candidates.losses), -1, np.int64) if candidates.labels is None else candidates.labels
    open_ones = candidates.covered[labels[candidates.covered] < 0]
    guesses = candidates.rows("probs", np.unique(open_ones)).argmax(axis=1)
    return class_histogram(labels, classes) + np.bincount(guesses, minlength=classes)
