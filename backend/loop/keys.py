"""Keys that name the settings which losses and batches depend on: other settings make them stale."""

import hashlib

from backend.config import ProjectConfig
from backend.errors import ConfigError, ProjectError
from backend.labeling.project import labeling_of
from backend.store import ProjectRow
from model.encoders.registry import encoder_info
from model.learners.registry import FINETUNE, reads_activations
from model.pretext.registry import PRETEXT_TASKS
from model.problems import problem


def on_encoder(config: ProjectConfig) -> bool:
    """Tell whether the pretext task is learned on the encoder's features, instead of by a network of its own."""
    return not config.own_network and PRETEXT_TASKS[config.pretext].on_encoder


def features_key(config: ProjectConfig, encoder_side: int | None) -> str | None:
    """Return a key of the features of a project, which fits a file name; None for a network of our own.

    encoder_side: of the encoder's images, in pixels.
    """
    if config.own_network:
        return None
    return f"{encoder_info(config.encoder).name.replace(':', '-').replace('/', '-')}-{encoder_side}"


def view_side(row: ProjectRow) -> int | None:
    """Return the side of a project's views in pixels; None where what it labels needs none, or cannot be read."""
    try:
        return problem(labeling_of(row).problem).view_side
    except (ConfigError, ProjectError):
        return None


def keeps_activations(config: ProjectConfig, row: ProjectRow, images: int) -> bool:
    """Tell whether a learner of what the project labels may read activations in a pool of so many images."""
    try:
        learners = problem(labeling_of(row).problem).learners
    except (ConfigError, ProjectError):
        return False
    return FINETUNE in learners and reads_activations(config.learner, images)


def pretext_key(config: ProjectConfig, side: int | None) -> str:
    """Return a key of the settings that pretext losses depend on. side: of the image bank, in pixels."""
    parts: tuple[object, ...] = (config.pretext, config.network, config.recipe, config.seed, side)
    if on_encoder(config):
        parts = (*parts, encoder_info(config.encoder).name)
    if config.pretext_epochs is not None:  # without the key as in earlier releases, whose losses stay
        parts = (*parts, f"{config.pretext_epochs} epochs")
    if config.pretext_seconds is not None:
        parts = (*parts, f"{config.pretext_seconds} seconds")
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]


def split_key(config: ProjectConfig) -> str:
    """Return a key of the settings that the batches depend on."""
    return f"{config.batch_order}/{'auto' if config.batches_by_pool else config.rounds}"


def configured_side(config: ProjectConfig) -> int | None:
    """Return the configured side of the bank's images in pixels, or None if it follows from the images."""
    return config.image_size if isinstance(config.image_size, int) else None
