"""How the training of a pretext network went, as the pretext job has noted it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from backend.project_files import Files
from model.data.atomic_files import write_atomically
from model.pretext.curve import FALLING, fall_at_the_end


@dataclass(frozen=True)
class PretextTraining:
    """A training. curve: the mean loss of each epoch."""

    seconds: float
    curve: Sequence[float]

    @property
    def fall_at_the_end(self) -> float | None:
        """By how much the loss still fell, see ``model.pretext.curve``."""
        return fall_at_the_end(self.curve)


def read_training(files: Files, key: str | None) -> PretextTraining | None:
    """Return the training for a pretext key; None without one: a head on the encoder, or one of an earlier release."""
    try:
        return None if key is None else PretextTraining(**json.loads(files.pretext_training(key).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def note_training(files: Files, key: str, training: PretextTraining) -> None:
    """Note how the training for a pretext key went."""
    write_atomically(files.pretext_training(key), json.dumps(asdict(training)).encode())


def training_text(training: PretextTraining) -> str | None:
    """Return a sentence on a training that was too short; None where the loss has settled, or nobody can tell."""
    fall = training.fall_at_the_end
    if fall is None or fall < FALLING:
        return None
    return (
        f"The loss of the pretext task has not settled: in the last quarter of its {len(training.curve)} epochs "
        f"it fell by {fall:.0%} of its whole fall. Set pretext_seconds (it took {training.seconds:.0f}) "
        "or pretext_epochs higher."
    )
