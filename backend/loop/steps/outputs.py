"""What networks have said of the pool: left by the jobs that train them, read by whoever plans a round."""

import os
from pathlib import Path

import numpy as np

from backend.loop.context import Work
from backend.loop.facts import pretext_key
from backend.store import RoundRow
from model.outputs import OUTPUTS, FloatArray, Outputs, pool_axis

UNIFORM = frozenset({"probs", "mc_probs", "ensemble_probs"})  # posteriors: an unseen image may be of any class


def save_outputs(work: Work, number: int, outputs: Outputs) -> None:
    """Write all that the model of round ``number`` says of the pool."""
    for name in OUTPUTS:
        array = getattr(outputs, name)
        if array is not None:
            save_array(work.files.output(number, name), array)


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


def load_pretext_embeddings(work: Work, size: int) -> FloatArray | None:
    """Give the features (size, D) of the pretext network, if the pretext job has left them."""
    path = work.files.pretext_embeddings(pretext_key(work.config, work.side))
    return _load(path, "pretext_embeddings", size)


def save_array(path: Path, array: FloatArray) -> None:
    """Write an array so that a reader, or a kill, finds the old one or the new one whole."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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
