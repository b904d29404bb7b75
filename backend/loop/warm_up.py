"""What the worker that trains does once before its first job, so that no first round waits for it."""

import logging

from backend.config import Settings
from backend.loop.steps.features import Encoders
from model.encoders.registry import DEFAULT, SIDES
from model.errors import ModelError

logger = logging.getLogger(__name__)


def warm_up(settings: Settings) -> None:
    """Load PyTorch, and prepare the default encoder: the worker that fetches images then needs no PyTorch for it.

    What is missing is said by the job that needs it.
    """
    import model.learners.fitting
    import model.pretext.heads  # noqa: F401

    encoders = Encoders(settings.data_dir / "encoders", settings.device)
    try:
        for side in SIDES:
            encoders.open(DEFAULT, side)
    except (ModelError, OSError) as error:
        logger.info("the default encoder is not ready: %s", error)
