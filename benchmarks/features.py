"""A pool of drawn features of the default encoder's shape: what is measured is how long work on them takes."""

from pathlib import Path

import numpy as np

from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.encoders.registry import DEFAULT, SIDES
from model.learners.base import PoolImages

DIM, LAST = 1_792, 1_280  # of the default encoder: all features, and those of the last layer
KINDS = 10  # groups of similar images
AT_ONCE = 2_000


def random_pool(folder: Path, size: int, side: int = 8) -> PoolImages:
    """Return a pool of ``size`` images; image i is of kind i modulo KINDS, and similar to others of its kind."""
    generator = np.random.default_rng(0)
    centres = np.maximum(generator.standard_normal((KINDS, DIM), np.float32), 0)
    features = FeatureBank.create(folder / "features", DEFAULT, SIDES[0], DIM, LAST)
    bank = ImageBank.create(folder / "bank", side)
    for start in range(0, size, AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, size))
        drawn = np.abs(generator.standard_normal((len(rows), DIM), np.float32))
        features.write(rows, (drawn + centres[rows % KINDS]).astype(np.float16))
        bank.append(np.zeros((len(rows), side, side, 3), np.uint8))
    return PoolImages(bank, features)
