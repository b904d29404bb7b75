"""Images for tests of the model."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.data.bank import ImageBank


def noise(n: int, side: int = 4, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return images of random pixels, (n, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def gradients(n: int, side: int = 16, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return noisy images that are brighter at the top, (n, side, side, 3): their rotation can be told."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(200, 40, side)[None, :, None, None]
    return (ramp + generator.integers(-30, 30, (n, side, side, 3))).astype(np.uint8)


def bank_of(folder: Path, images: npt.NDArray[np.uint8]) -> ImageBank:
    """Return a new bank in ``folder`` with these images, (n, side, side, 3)."""
    bank = ImageBank.create(folder, images.shape[1])
    bank.append(images)
    return bank


def halves(n: int, side: int = 16, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return noisy images (n, side, side, 3) whose bright half lies left or right, and which of the two, (n,)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    base = np.full((n, side, side, 3), 60.0)
    for number, label in enumerate(labels):
        base[number, :, label * side // 2 : (label + 1) * side // 2] = 180
    return (base + generator.normal(0, 20, base.shape)).clip(0, 255).astype(np.uint8), labels
