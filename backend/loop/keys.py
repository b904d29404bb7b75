"""Keys that name the settings which losses and batches depend on: other settings make them stale."""

import hashlib

from backend.config import ProjectConfig


def pretext_key(config: ProjectConfig, side: int | None) -> str:
    """Return a key of the settings that pretext losses depend on. side: of the image bank, in pixels."""
    parts = (config.pretext, config.network, config.recipe, config.seed, side)
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]


def split_key(config: ProjectConfig) -> str:
    """Return a key of the settings that the batches depend on."""
    return f"{config.batch_order}/{config.rounds}"


def configured_side(config: ProjectConfig) -> int | None:
    """Return the configured side of the bank's images in pixels, or None if it follows from the images."""
    return config.image_size if isinstance(config.image_size, int) else None
