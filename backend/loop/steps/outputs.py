"""What networks have said of the pool: left by the jobs that train them, read by whoever plans a round."""

import logging
from pathlib import Path

import numpy as np

from backend.project_files import Files
from backend.store import RoundRow
from model.data.atomic_files import save_array
from model.querying.outputs import OUTPUTS, FloatArray, Outputs, pool_axis

logger = logging.getLogger(__name__)

UNIFORM = frozenset({"probs", "ensemble_probs"})  # posteriors: an unseen image may be of any class


def save_outputs(files: Files, number: int, outputs: Outputs) -> None:
    """Write all that the model of round ``number`` says of the pool.

    What is not finite is left out: the sampler that needs it then gives way to the plainest one, instead of never
    asking again.
    """
    for name in OUTPUTS:
        array = getattr(outputs, name)
        if array is None:
            continue
        if np.isfinite(array).all():
            save_array(files.output(number, name), array)
        else:
            files.output(number, name).unlink(missing_ok=True)
            logger.warning("'%s' of the pool are not finite numbers and are not used", name)


def load_outputs(files: Files, model: RoundRow | None, size: int) -> Outputs | None:
    """Return what a model has left, for a pool of ``size``; None without posteriors."""
    if model is None or model.classes is None:
        return None
    arrays = {name: _load(files.output(model.number, name), name, size) for name in OUTPUTS}
    return Outputs(**arrays) if arrays["probs"] is not None else None


def load_probs(files: Files, model: RoundRow | None, size: int) -> FloatArray | None:
    """Return a model's posteriors (size, C); images that it has not seen get uniform ones."""
    if model is None or model.classes is None:
        return None
    return _load(files.output(model.number, "probs"), "probs", size)


def images_seen(files: Files, model: RoundRow | None) -> int:
    """Return the number of images, from the first on, that a model's posteriors are about; later ones came after it."""
    path = None if model is None else files.output(model.number, "probs")
    return 0 if path is None or not path.exists() else len(np.load(path, mmap_mode="r"))


def load_pretext_embeddings(files: Files, key: str, size: int) -> FloatArray | None:
    """Return the features (size, D) of the pretext network of that key; None if the pretext job wrote none."""
    return _load(files.pretext_embeddings(key), "pretext_embeddings", size)


def _load(path: Path, name: str, size: int) -> FloatArray | None:
    """Map an output from its file, with something neutral for images that came after it was written."""
    if not path.exists():
        return None
    array: FloatArray = np.load(path, mmap_mode="r")
    axis = pool_axis(name)
    known = array.shape[axis]
    if known >= size:
        return array[:, :size] if axis else array[:size]
    shape = list(array.shape)
    shape[axis] = size - known
    return np.concatenate([array, np.full(shape, _neutral(name, array), array.dtype)], axis=axis)


def _neutral(name: str, array: FloatArray) -> float:
    if name in UNIFORM:
        return 1.0 / int(array.shape[-1])
    # Features of the origin; of what is one number an image, the mean: neither the first to be asked nor the last.
    return 0.0 if array.ndim > 1 or not len(array) else float(np.mean(array))
