"""Features of an encoder as learners and query strategies use them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from model.data.features import CHUNK, FeatureBank
from model.querying.outputs import FloatArray, IntArray

SAMPLE = 20_000  # images that the mean of a pool is taken of; of more, every n-th


@dataclass(frozen=True)
class Scaling:
    """Signed square root, minus the pool's mean, length 1: (n, dim) features -> (n, d) float32.

    The root tempers the few features that are large. columns: how many of the features are used, the first ones.
    mean: (columns,) of the roots. Measured against five other scalings in docs/method.md.
    """

    columns: int
    mean: FloatArray

    @classmethod
    def of(cls, bank: FeatureBank, columns: int) -> "Scaling":
        """Return the scaling that fits the features of a pool, which needs no label."""
        known = np.flatnonzero(bank.known)
        known = known[:: 1 + len(known) // SAMPLE]
        total = np.zeros(columns)
        for start in range(0, len(known), CHUNK):
            total += _rooted(bank.gather(known[start : start + CHUNK]), columns).sum(axis=0, dtype=np.float64)
        return cls(columns, (total / max(len(known), 1)).astype(np.float32))

    def apply(self, features: FloatArray) -> FloatArray:
        """Return the scaled features."""
        rows = _rooted(features, self.columns) - self.mean
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8)
        scaled: FloatArray = rows
        return scaled


class ScaledFeatures:
    """The scaled features of a pool of ``size`` images, computed when they are read; zero where there are none.

    It stands in for an array (size, columns) in ``Outputs``, so that the features of a pool are on the disk once only.
    """

    def __init__(self, bank: FeatureBank, scaling: Scaling, size: int) -> None:
        self._bank, self._scaling = bank, scaling
        self.shape = (size, scaling.columns)
        self.dtype = np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: IntArray | Sequence[int]) -> FloatArray:
        """Return the rows of these pool indices."""
        indices = np.asarray(indices, np.int64)
        rows = np.zeros((len(indices), self.shape[1]), np.float32)
        known = self._bank.knows(indices)
        rows[known] = self._scaling.apply(self._bank.gather(indices[known]))
        return rows


def query_features(bank: FeatureBank, size: int) -> FloatArray:
    """Return what query strategies compare images by: the scaled last layer of a pool of ``size`` images.

    It is a ScaledFeatures, of which ``Outputs`` uses shape, dtype and rows by index, as of an array.
    """
    return cast("FloatArray", ScaledFeatures(bank, Scaling.of(bank, bank.last), size))


def _rooted(features: FloatArray, columns: int) -> FloatArray:
    rows = features[:, :columns].astype(np.float32)
    rooted: FloatArray = np.copysign(np.sqrt(np.abs(rows)), rows)
    return rooted
