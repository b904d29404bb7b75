"""Herding: a greedy choice of the images that stand for most of a pool (Bae, Oliveira and Sutherland 2024)."""

import heapq

import numpy as np

from model.querying.distances import blocks, neighbours, to_nearest, unit_rows
from model.querying.outputs import FloatArray, IntArray
from model.querying.selection import Candidates

SAMPLE = 4096  # images that coverage is measured on, and at least as many that may be picked
MOST = 16384  # that may be picked at most: 256 MB of kernel
APART = 1e-3  # between features of length 1: less is rounding
NEAR = 0.01  # share of the sample that an image stands for: its distance to the last of them is the kernel's width


class Herding:
    """Drawn parts of the candidates and of the pool, with the features of both scaled to length 1.

    drawn: (n,) positions among the candidates that may be picked. measured: (m,) pool indices that are to be covered.
    """

    def __init__(self, candidates: Candidates, need: str, k: int, generator: np.random.Generator) -> None:
        """need: the output of the pool that has the features."""
        self.candidates = candidates
        order = generator.permutation(len(candidates.indices))
        self.drawn = order[: max(SAMPLE, min(2 * k, MOST))]
        self.measured = generator.permutation(candidates.to_cover)[:SAMPLE]
        self.x = unit_rows(candidates.rows(need, candidates.indices[self.drawn]))
        self.y = unit_rows(candidates.rows(need, self.measured))
        self.covered = unit_rows(candidates.rows(need, candidates.covered))

    def width_of_pool(self) -> float:
        """Return the median distance to the NEAR share of the pool that is nearest; 1 where no two images differ."""
        if len(self.y) < 2:
            return 1.0
        rank = min(max(1, round(NEAR * len(self.y))), len(self.y) - 1)
        return apart(float(np.median(neighbours(self.y, rank)[1].max(axis=1))))

    def width_of_labels(self) -> float:
        """Return the median distance of a covered image to its nearest: it falls as labels come."""
        if len(self.covered) < 2:
            return 1.0
        return apart(float(np.median(neighbours(self.covered, 1)[1])))

    def pick(self, k: int, width: float, weight: FloatArray, cost: FloatArray | None = None) -> IntArray:
        """Return the positions of the candidates that greedily cover most of what nothing covers yet, (k,) or fewer.

        width: of the Gaussian kernel. weight: (m,) of the images to cover. cost: (n,) by which the gains of the
        candidates are divided, in the order of ``drawn``; None for all alike.
        """
        rows = np.empty((len(self.x), len(self.y)), np.float32)
        for part, squared in blocks(self.x, self.y):
            rows[part] = kernel(squared, width)
        return self.drawn[cover(rows, kernel(to_nearest(self.y, self.covered), width), weight, k, cost)]


def cover(rows: FloatArray, best: FloatArray, weight: FloatArray, k: int, cost: FloatArray | None = None) -> IntArray:
    """Return the rows that greedily cover most of what nothing covers yet, (k,) or all.

    rows: (n, m) how far each may cover each place. best: (m,) how far it is covered. weight: (m,) of the places.
    cost: (n,) by which the gains are divided; None for all alike. A gain only falls while others are picked
    (submodularity), so that an old gain bounds the new one, and most are never computed again (Minoux 1978).
    """

    def gain(row: int) -> float:
        return float(np.maximum(rows[row] - best, 0) @ weight) / (1.0 if cost is None else float(cost[row]))

    heap = [(-gain(row), row) for row in range(len(rows))]
    heapq.heapify(heap)
    picks: list[int] = []
    while heap and len(picks) < k:
        _, row = heapq.heappop(heap)
        now = gain(row)
        if heap and now < -heap[0][0]:
            heapq.heappush(heap, (-now, row))
            continue
        picks.append(row)
        best = np.maximum(best, rows[row])
    return np.array(picks, np.int64)


def apart(distance: float) -> float:
    """Return a kernel's width of this distance: 1 where it is nothing but rounding."""
    return distance if distance > APART else 1.0


def kernel(squared: FloatArray, width: float) -> FloatArray:
    """Return the Gaussian kernel of squared distances."""
    near: FloatArray = np.exp(-squared / np.float32(width**2))
    return near
