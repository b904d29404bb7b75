"""Decide whether training may mirror images: photographs yes; digits, letters and arrows no.

Nearest neighbours among small grey images decide, without a network, from the pool and the labels so far. The idea is
visual chirality (Lin et al. 2020).
"""

from math import sqrt

import numpy as np
import numpy.typing as npt

from model.querying.outputs import FloatArray, IntArray

SAMPLE = 2000  # images of the pool that are looked at
LIMIT = 0.65  # a share of images nearer to the pool than their mirror images from which on training does not mirror

_QUERIES = 500  # images whose nearest neighbours are searched
_SIDE = 8  # pixels of a small image


def mirror_share(images: npt.NDArray[np.uint8], seed: int = 0) -> float:
    """Return the share of images that are nearer to the pool than their mirror image is.

    0.5: the pool has mirror images as often as images. 1: it has none. Digits and letters have about 1, photographs
    about 0.5. images: (N, side, side, 3), a sample of the pool.
    """
    small = _thumbnails(images)
    queries = np.random.default_rng(seed).permutation(len(small))[:_QUERIES]
    plain, _ = _nearest(small[queries], small, queries)
    mirrored, _ = _nearest(small[queries][:, :, ::-1], small, queries)
    return float(((plain < mirrored) + 0.5 * (plain == mirrored)).mean())


def mirror_changes_class(images: npt.NDArray[np.uint8], labels: IntArray, seed: int = 0) -> bool:
    """Return whether mirroring changes the class, as it does for arrows to the left and to the right.

    images: (n, side, side, 3), labeled. labels: (n,). A sign test at two standard deviations: the nearest neighbour has
    the class of an image, and that of its mirror image has not, more often than the other way round.
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
    """Return squared distance and index of the nearest image of the pool for each query, without the query itself."""
    a, b = queries.reshape(len(queries), -1), pool.reshape(len(pool), -1)
    distances = (a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1)
    distances[np.arange(len(own)), own] = np.inf
    nearest = distances.argmin(axis=1)
    return distances[np.arange(len(own)), nearest], nearest
