"""Which images of a pool look nearly alike: shots of one burst, and copies that were compressed, resized or cropped."""

import numpy as np

from model.querying.distances import blocks
from model.querying.outputs import BoolArray, FloatArray, IntArray

SAMPLE = 1024  # images that distances are compared with
RANKS = ((5, 20), (10, 40), (20, 80))  # of neighbours, whose distances tell how dense a pool is
NO_LESS = 1 / 2  # of the largest dimension: less is a sign of images that are alike
ROOM = 3  # times so many images as the larger rank are needed to trust it
CHANCE = 1e-4  # of an image to have another one so near that does not show the same
AT_ONCE = 4096  # rows of features that are read at once


class Likeness:
    """Tells images that are nearer to each other than different ones ever come.

    How near that is follows from the pool. Around an image, the number of different images within a distance r grows as
    r ** dimension. From the distance of its m-th neighbour in a sample of the pool follows the distance within which
    fewer than CHANCE of another image are to be expected. Both images of a pair have to find the other so near.
    The dimension follows from the distances of two ranks of neighbours (Levina and Bickel 2004 take the mean of many).
    Images that are alike depress it where their number lies between the ranks, and classes do so a little. So the first
    ranks count where it is not far below the largest.
    In a pool of fewer than ROOM times 20 images nothing is near: there are too few to compare with.
    """

    def __init__(self, features: FloatArray, pool: IntArray, generator: np.random.Generator) -> None:
        """features: (N, D) of length 1 by pool index. pool: (n,) pool indices of the images that have them."""
        self._features = features
        self._sample = np.sort(generator.permutation(pool)[:SAMPLE])
        self._rows = self._read(self._sample)
        self.dimension, self._rank, self._factor = 0.0, 0, 0.0
        ranks = [pair for pair in RANKS if ROOM * pair[1] < len(self._sample)]
        if not ranks:
            return
        nearest = self._nearest(self._sample, self._rows, ranks[-1][1])
        logs = np.log(np.maximum(nearest, _TINY))
        dimensions = [
            float(np.log(high / low) / max((logs[:, high - 1] - logs[:, low - 1]).mean(), _TINY)) for low, high in ranks
        ]
        enough = NO_LESS * max(dimensions)
        self.dimension, self._rank = next(
            (dimension, high) for dimension, (_, high) in zip(dimensions, ranks, strict=True) if dimension >= enough
        )
        expected = self._rank * len(pool) / len(self._sample)  # images of the pool within the distance of that rank
        self._factor = (CHANCE / expected) ** (1 / self.dimension)

    def reach(self, indices: IntArray) -> FloatArray:
        """Return the distance (n,) within which other images are like these."""
        if not self._rank:
            return np.zeros(len(indices), np.float32)
        reach = np.empty(len(indices), np.float32)
        for start in range(0, len(indices), AT_ONCE):
            part = indices[start : start + AT_ONCE]
            nearest = self._nearest(part, self._read(part), self._rank)
            reach[start : start + AT_ONCE] = nearest[:, self._rank - 1] * self._factor
        return reach

    def pairs(self, x: IntArray, y: IntArray) -> tuple[IntArray, IntArray]:
        """Return the pairs of images that are alike: positions in ``x`` and in ``y``. No image is like itself."""
        first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        if self._rank and len(x) and len(y):
            rows, reach = self._read(x), self.reach(x)
            for start in range(0, len(y), AT_ONCE):
                others = y[start : start + AT_ONCE]
                for part, squared in blocks(rows, self._read(others)):
                    near = squared < reach[part, None] ** 2
                    near &= x[part, None] != others[None, :]
                    i, j = np.nonzero(near)
                    mutual = np.sqrt(squared[i, j]) < self.reach(others[j])
                    first.append(i[mutual] + part.start)
                    second.append(j[mutual] + start)
        return np.concatenate(first), np.concatenate(second)

    def like_any(self, x: IntArray, y: IntArray) -> BoolArray:
        """Tell which of the images ``x`` are like any of ``y``, (n,)."""
        found = np.zeros(len(x), np.bool_)
        found[self.pairs(x, y)[0]] = True
        return found

    def _read(self, indices: IntArray) -> FloatArray:
        rows: FloatArray = np.asarray(self._features[indices], np.float32)
        return rows

    def _nearest(self, indices: IntArray, rows: FloatArray, count: int) -> FloatArray:
        """Return the distances to the ``count`` nearest others of the sample, ascending, (n, count)."""
        nearest = np.empty((len(rows), count), np.float32)
        for part, squared in blocks(rows, self._rows):
            squared[indices[part, None] == self._sample[None, :]] = np.inf
            nearest[part] = np.sqrt(np.sort(np.partition(squared, count - 1, axis=1)[:, :count], axis=1))
        return nearest


_TINY = 1e-9
