"""Features of images that are different, and of copies of them."""

import numpy as np

from model.querying.distances import unit_rows
from model.querying.outputs import FloatArray


def different(n: int, dimension: int = 12, wide: int = 64, seed: int = 0) -> FloatArray:
    """Return features of different images, (n, wide): normal within a plane of that dimension, of length 1."""
    generator = np.random.default_rng(seed)
    plane = generator.normal(size=(dimension, wide))
    return unit_rows(generator.normal(size=(n, dimension)) @ plane)


def copies(rows: FloatArray, noise: float = 0.02, seed: int = 1) -> FloatArray:
    """Return features of copies: those of the originals, and a little noise."""
    generator = np.random.default_rng(seed)
    return unit_rows(rows + generator.normal(size=rows.shape) * noise / np.sqrt(rows.shape[1]))
