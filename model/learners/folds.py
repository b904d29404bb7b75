"""The parts of the labels for a cross-validation, and what models that were trained on the others say of each."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.problems.base import Encoded
from model.progress import Progress
from model.querying.outputs import IntArray
from model.training.loop import read_weights, write_weights

FOLDS = 3  # of a network, which is trained once for each

Arrays = Mapping[str, npt.NDArray[Any]]
# From the number of a fold, the rows to train on, those to predict, the checkpoint and the progress to what is said.
Predict = Callable[[int, IntArray, IntArray, Path, Progress], Arrays]


def deal(truth: Encoded, folds: int, seed: int, most: int | None = None) -> tuple[IntArray, list[IntArray]]:
    """Return the rows of the labels that are dealt out, and those of each fold, ascending.

    The labels of a class are dealt out one by one. most: of more labels, so many are drawn. There are fewer folds than
    asked for where a fold would have less than two labels, and none where that leaves a single one.
    """
    rows = np.random.default_rng([seed, 0]).permutation(len(truth))[:most]
    if truth.ndim == 1 and truth.dtype.kind == "i":
        rows = rows[np.argsort(truth[rows], kind="stable")]
    count = min(folds, len(rows) // 2)
    return np.sort(rows), [np.sort(rows[fold::count]) for fold in range(count)] if count > 1 else []


def out_of_fold(
    labels: int,
    folds: Sequence[IntArray],
    predict: Predict,
    identity: Callable[[IntArray], Mapping[str, Any]],
    *,
    checkpoint: Path,
    progress: Progress,
) -> dict[str, npt.NDArray[Any]]:
    """Return what models say of the labels that they were not trained on, in the order of the labels.

    What is said of a fold is kept beside ``checkpoint`` for a call that is killed, or one with the same folds:
    ``forget_folds`` removes it. identity: of a training on these rows, plain values.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for fold, held in enumerate(folds):
        rows, path = np.setdiff1d(np.arange(labels), held), of_fold(checkpoint, fold)
        share = share_of(progress, fold, len(folds))
        known = {**identity(rows), "fold": fold, "held": digest(held)}
        stored = read_weights(path) if path.exists() else None
        if stored is None or stored.get("fold_identity") != known:
            found = predict(fold, rows, held, path, share)
            stored = {"said": {name: torch.from_numpy(values) for name, values in found.items()}}
            write_weights(path, {**stored, "fold_identity": known})
        share(1.0)
        for name, values in stored["said"].items():
            said = values.numpy()
            arrays.setdefault(name, np.empty((labels, *said.shape[1:]), said.dtype))[held] = said
    return arrays


def of_fold(checkpoint: Path, fold: int) -> Path:
    """Return where the model of a fold keeps its checkpoint, and then what it says of the fold."""
    return checkpoint.with_name(f"{checkpoint.stem}-fold-{fold}{checkpoint.suffix}")


def forget_folds(checkpoint: Path, folds: int) -> None:
    """Delete what ``out_of_fold`` has kept."""
    for fold in range(folds):
        of_fold(checkpoint, fold).unlink(missing_ok=True)


def digest(*arrays: npt.NDArray[Any]) -> str:
    """Return what tells these arrays from others in a checkpoint."""
    known = hashlib.sha256()
    for array in arrays:
        known.update(array.tobytes())
    return known.hexdigest()


def share_of(progress: Progress, step: int, steps: int) -> Progress:
    """Return a callback for the progress of one of several trainings that reports that of all of them."""
    return lambda share: progress((step + share) / steps)
