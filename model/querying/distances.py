"""Euclidean distances between feature vectors, in blocks, so that no table of all pairs is ever held."""

from collections.abc import Iterator

import numpy as np

from model.querying.outputs import FloatArray, IntArray

BLOCK = 1 << 22  # entries of a block of distances: 16 MB in float32


def blocks(x: FloatArray, y: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield rows of ``x`` and their squared distances to all of ``y``: slices of at most BLOCK entries.

    x: (n, D). y: (m, D). Each block: (rows, m), never negative.
    """
    step = max(1, BLOCK // max(len(y), 1))
    y_norms = np.einsum("md,md->m", y, y)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        norms = np.einsum("nd,nd->n", x[rows], x[rows])
        yield rows, np.maximum(norms[:, None] + y_norms - 2 * (x[rows] @ y.T), 0)


def to_nearest(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the squared distance (n,) of each row of ``x`` to its nearest row of ``y``; inf where ``y`` is empty."""
    nearest = np.full(len(x), np.inf, x.dtype)
    if len(y):
        for rows, squared in blocks(x, y):
            nearest[rows] = squared.min(axis=1)
    return nearest


def neighbours(x: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the ``k`` nearest other rows of each row of ``x`` and their distances, both (n, k), in no order.

    k: from 1 to n - 1.
    """
    indices = np.empty((len(x), k), np.int64)
    squared = np.empty((len(x), k), x.dtype)
    for rows, block in blocks(x, x):
        own = np.arange(len(block))
        block[own, own + rows.start] = np.inf
        indices[rows] = np.argpartition(block, k - 1, axis=1)[:, :k]
        squared[rows] = np.take_along_axis(block, indices[rows], axis=1)
    return indices, np.sqrt(squared)


def unit_rows(x: FloatArray) -> FloatArray:
    """Return the rows of ``x`` scaled to length 1 in float32; a row of zeros stays."""
    x = np.asarray(x, np.float32)
    unit: FloatArray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return unit
