"""What the networks say of the pool: the arrays that query strategies read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outputs:
    """Arrays by ``pool_index``; what nobody needed is None. A memory map serves as well as an array in memory.

    probs: (N, C) posterior of the main model.
    embeddings: (N, D) penultimate features of the main model.
    mc_probs: (T, N, C) posteriors of T stochastic passes (dropout) or of T members of an ensemble.
    pretext_embeddings: (N, D') features of the pretext network.
    """

    probs: FloatArray | None = None
    embeddings: FloatArray | None = None
    mc_probs: FloatArray | None = None
    pretext_embeddings: FloatArray | None = None
