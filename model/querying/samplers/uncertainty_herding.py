"""Uncertainty herding: uncertain images that stand for many others (Bae, Oliveira and Sutherland 2024, Algorithm 1)."""

import heapq

import numpy as np

from model.querying.distances import neighbours, to_nearest, unit_rows
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray, IntArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank

SAMPLE = 4096  # candidates that coverage is measured on, and at least as many that may be picked
MOST = 16384  # that may be picked at most: 256 MB of kernel
APART = 1e-3  # between embeddings of length 1: less is rounding


class UncertaintyHerding:
    """Ask, one after the other, the image that covers most of the uncertainty that nothing labeled or asked covers yet.

    An image covers those near it, by a Gaussian kernel between embeddings of length 1. Its width is the median distance
    of a labeled image to its nearest: few labels spread far and call for whole regions, many for places of doubt.
    The paper takes the smallest distance, which one pair of copies makes zero.
    """

    info = StrategyInfo(
        "stands for the most images that the model doubts and nothing labeled stands for", "Bae et al. 2024"
    )
    needs = frozenset({"uncertainty", "embeddings"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates, each the one of the largest gain; of a large pool, of a drawn part of it.

        More than that part are filled up by uncertainty.
        """
        order = generator.permutation(len(candidates.indices))
        drawn = order[: max(SAMPLE, min(2 * k, MOST))]
        x = unit_rows(candidates.rows("embeddings", candidates.indices[drawn]))
        covered = unit_rows(candidates.rows("embeddings", candidates.covered))
        measured = x[:SAMPLE]
        doubt = candidates.rows("uncertainty", candidates.indices[drawn[:SAMPLE]])
        width = _width(covered)
        best = _kernel(to_nearest(measured, covered), width)
        picks = drawn[_lazy_greedy(x, measured, best, doubt, width, min(k, len(drawn)))]
        rest = candidates.indices[np.setdiff1d(order, picks)] if len(picks) < k else candidates.indices[:0]
        more, _ = lowest(rest, -candidates.rows("uncertainty", rest), k - len(picks))
        return query_by_rank(np.concatenate([candidates.indices[picks], more]))


def _width(covered: FloatArray) -> float:
    """Return the width of the kernel: 1 where no two labeled images differ."""
    if len(covered) < 2:
        return 1.0
    apart = float(np.median(neighbours(covered, 1)[1]))
    return apart if apart > APART else 1.0


def _kernel(squared: FloatArray, width: float) -> FloatArray:
    kernel: FloatArray = np.exp(-squared / np.float32(width**2))
    return kernel


def _lazy_greedy(
    x: FloatArray, measured: FloatArray, best: FloatArray, doubt: FloatArray, width: float, k: int
) -> IntArray:
    """Return the ``k`` rows of ``x`` that a greedy maximisation picks.

    A gain only falls while others are picked (submodularity), so that an old gain bounds the new one, and most are
    never computed again (Minoux 1978).
    """
    rows = np.empty((len(x), len(measured)), np.float32)
    for start in range(0, len(x), 512):
        part = slice(start, start + 512)
        rows[part] = _kernel(np.maximum(2 - 2 * (x[part] @ measured.T), 0), width)

    def gain(row: int) -> float:
        return float(np.maximum(rows[row] - best, 0) @ doubt)

    heap = [(-gain(row), row) for row in range(len(x))]
    heapq.heapify(heap)
    picks: list[int] = []
    while len(picks) < k:
        _, row = heapq.heappop(heap)
        now = gain(row)
        if heap and now < -heap[0][0]:
            heapq.heappush(heap, (-now, row))
            continue
        picks.append(row)
        best = np.maximum(best, rows[row])
    return np.array(picks, np.int64)
