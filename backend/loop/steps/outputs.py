"""What networks have said of the pool: left by the jobs that train them, read by whoever plans a round."""

import logging
from pathlib import Path

import numpy as np

from backend.loop.context import Work
from backend.loop.facts import pretext_key
from backend.store import RoundRow
from model.data.atomic_files import save_array
from model.querying.outputs import OUTPUTS, FloatArray, Outputs, extended

logger = logging.getLogger(__name__)


def save_outputs(work: Work, number: int, outputs: Outputs) -> None:
    """Write all that the model of round ``number`` says of the pool.

    What is not finite is left out: the sampler that wanted it gives way to the plainest one, instead of never asking
    again.
    """
    for name in OUTPUTS:
        array = getattr(outputs, name)
        if array is None:
            continue
        if np.isfinite(array).all():
            save_array(work.files.output(number, name), array)
        else:
            work.files.output(number, name).unlink(missing_ok=True)
            logger.warning("'%s' of the pool are not finite numbers and are not used", name)


def load_outputs(work: Work, model: RoundRow | None, size: int) -> Outputs | None:
    """Give what a model has left, for a pool of ``size``; None without posteriors."""
    if model is None or model.classes is None:
        return None
    arrays = {name: _load(work.files.output(model.number, name), name, size) for name in OUTPUTS}
    return Outputs(**arrays) if arrays["probs"] is not None else None


def load_probs(work: Work, model: RoundRow | None, size: int) -> FloatArray | None:
    """Give a model's posteriors (size, C); images that it has not seen get uniform ones."""
    if model is None or model.classes is None:
        return None
    return _load(work.files.output(model.number, "probs"), "probs", size)


def seen_by(work: Work, model: RoundRow | None) -> int:
    """Give the number of images, from the first on, that a model's posteriors are about; later ones came after it."""
    path = None if model is None else work.files.output(model.number, "probs")
    return 0 if path is None or not path.exists() else len(np.load(path, mmap_mode="r"))


def load_pretext_embeddings(work: Work, size: int) -> FloatArray | None:
    """Give the features (size, D) of the pretext network, if the pretext job has left them."""
    path = work.files.pretext_embeddings(pretext_key(work.config, work.side))
    return _load(path, "pretext_embeddings", size)


def _load(path: Path, name: str, size: int) -> FloatArray | None:
    """Map an output from its file, with something neutral for images that came after it was written."""
    if not path.exists():
        return None
    return extended(name, np.load(path, mmap_mode="r"), size)
