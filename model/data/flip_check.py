"""Whether a picture may be mirrored: photographs may, digits, letters and arrows may not.

Decided by nearest neighbours in small grey pictures, without a network, from the pool and the labels so far. The idea
is visual chirality (Lin et al. 2020).
"""

from math import sqrt

import numpy as np
import numpy.typing as npt

from model.querying.outputs import FloatArray, IntArray

SAMPLE = 2000  # images that stand for the pool
LIMIT = 0.65  # share of pictures nearer to the pool than their mirror images, from which on these are foreign to it

_QUERIES = 500  # images whose neighbours are sought
_SIDE = 8  # pixels of the small pictures


def mirror_share(images: npt.NDArray[np.uint8], seed: int = 0) -> float:
    """Return how often a picture is nearer to the pool than its mirror image is: 0.5 symmetric, 1 never mirrored.

    images: (N, side, side, 3), a sample of the pool. Digits and letters come near 1, photographs near 0.5.
    """
    small = _thumbnails(images)
    queries = np.random.default_rng(seed).permutation(len(small))[:_QUERIES]
    plain, _ = _nearest(small[queries], small, queries)
    mirrored, _ = _nearest(small[queries][:, :, ::-1], small, queries)
    return float(((plain < mirrored) + 0.5 * (plain == mirrored)).mean())


def mirror_changes_class(images: npt.NDArray[np.uint8], labels: IntArray, seed: int = 0) -> bool:
    """Say whether mirror images are found among another class, as an arrow to the left is among those to the right.

    images: (n, side, side, 3), labeled. labels: (n,). A sign test at two standard deviations: the nearest neighbour
    tells the class of a picture, and not that of its mirror image, more often than the other way round.
    """
    if len(images) < 2:
        return False
    small = _thumbnails(images)
    queries = np.random.default_rng(seed).permutation(len(small))[:_QUERIES]
    truth = labels[queries]
    right = labels[_nearest(small[queries], small, queries)[1]] == truth
    mirrored_right = labels[_nearest(small[queries][:, :, ::-1], small, queries)[1]] == truth
    lost, gained = int((right & ~mirrored_right).sum()), int((~right & mirrored_right).sum())
    return lost - gained > 2 * sqrt(lost + gained)


def _thumbnails(images: npt.NDArray[np.uint8]) -> FloatArray:
    """Return (N, 8, 8) grey means."""
    grey = images.mean(axis=3, dtype=np.float32)
    cell = max(grey.shape[1] // _SIDE, 1)
    side = grey.shape[1] // cell
    cells = grey[:, : cell * side, : cell * side].reshape(len(grey), side, cell, side, cell)
    means: FloatArray = cells.mean(axis=(2, 4))
    return means


def _nearest(queries: FloatArray, pool: FloatArray, own: IntArray) -> tuple[FloatArray, IntArray]:
    """Return squared distance and index of each query's nearest picture of the pool, its own original left out."""
    a, b = queries.reshape(len(queries), -1), pool.reshape(len(pool), -1)
    distances = (a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1)
    distances[np.arange(len(own)), own] = np.inf
    nearest = distances.argmin(axis=1)
    return distances[np.arange(len(own)), nearest], nearest
