"""What networks have said of the pool: left by the jobs that train them, read by whoever plans a round."""

import logging
from pathlib import Path

import numpy as np

from backend.project_files import Files
from backend.store import RoundRow
from model.data.atomic_files import save_array
from model.learners.scaling import ScaledFeatures
from model.problems import problem
from model.querying.outputs import OUTPUTS, FloatArray, Outputs, extended

logger = logging.getLogger(__name__)


def save_outputs(files: Files, number: int, outputs: Outputs) -> None:
    """Write all that the model of round ``number`` says of the pool.

    What is not finite is left out: the sampler that needs it then gives way to the plainest one, instead of never
    asking again.
    """
    for name in OUTPUTS:
        array = getattr(outputs, name)
        if array is None or isinstance(array, ScaledFeatures):  # features of the encoder are on the disk already
            continue
        if array.dtype.kind in "ui" or np.isfinite(array).all():
            save_array(files.output(number, name), array)
        else:
            files.output(number, name).unlink(missing_ok=True)
            logger.warning("'%s' of the pool are not finite numbers and are not used", name)


def load_outputs(
    files: Files,
    model: RoundRow | None,
    size: int,
    features: FloatArray | None = None,
    needs: frozenset[str] = frozenset(),
) -> Outputs | None:
    """Return what a model has left, for a pool of ``size``; None without what its predictions are made of.

    Images that the model has not seen get neutral values. features: of the encoder, which stand for embeddings where
    the model has none of its own. needs: of the sampler, without which large outputs are left out: they are copied
    where the pool has grown.
    """
    if model is None or model.classes is None:
        return None
    if not all(files.output(model.number, name).exists() for name in problem(model.problem).base_outputs):
        return None
    wanted = [name for name, spec in OUTPUTS.items() if not spec.large or name in needs]
    arrays = {name: _load(files.output(model.number, name), name, size) for name in wanted}
    if arrays["embeddings"] is None:
        arrays["embeddings"] = features
    return Outputs(**arrays)


def load_pretext_embeddings(files: Files, key: str, size: int) -> FloatArray | None:
    """Return the features (size, D) of the pretext network of that key; None if the pretext job wrote none."""
    return _load(files.pretext_embeddings(key), "pretext_embeddings", size)


def _load(path: Path, name: str, size: int) -> FloatArray | None:
    """Map an output from its file, with something neutral for images that came after it was written."""
    if not path.exists():
        return None
    return extended(name, np.load(path, mmap_mode="r"), size)
