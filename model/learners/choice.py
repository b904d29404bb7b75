"""Which learner suits a project: the linear head on the encoder, or a network of our own, by the labels alone.

A network of our own is ahead where pictures are unlike those that the encoder was trained on, and far behind elsewhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model.errors import BadInput
from model.learners import linear, own_network
from model.learners.base import PoolImages
from model.learners.folds import deal
from model.learners.registry import LINEAR, OWN
from model.learners.settings import FitSettings
from model.learners.trials import Choice
from model.problems.base import Problem, Target, as_vector
from model.progress import Progress, ignore_progress
from model.querying.outputs import FloatArray, IntArray, Outputs

FOLDS = 3  # a network of our own is trained once for each
CLEAR = 0.5  # standard errors that the network has to be ahead: trained on part of the labels, it is underrated
GOOD = 0.97  # quality of the linear head out of fold from which no other is tried


def choose(
    pool: PoolImages,
    indices: IntArray,
    targets: Sequence[Target],
    problem: Problem,
    classes: Sequence[str],
    settings: FitSettings,
    *,
    checkpoint: Path,
    progress: Progress = ignore_progress,
) -> Choice:
    """Compare the learners by cross-validation on the labels; the linear head stays where the difference may be chance.

    indices: (n,) pool indices of the labeled images. targets: theirs. checkpoint: where a killed trial goes on from.
    """
    truth = problem.encode(targets, classes)
    _, folds = deal(truth, FOLDS, settings.seed)
    if pool.features is None:
        raise BadInput("there are no features of an encoder to compare the learners on")
    vector = as_vector(problem)
    head = linear.out_of_fold(pool.features, indices, truth, vector, classes, folds)
    quality = {LINEAR: _qualities(problem, head, targets, classes)}
    if float(quality[LINEAR].mean()) < GOOD:
        network = own_network.out_of_fold(
            pool.bank, indices, truth, vector, classes, settings, folds, checkpoint=checkpoint, progress=progress
        )
        quality[OWN] = _qualities(problem, network, targets, classes)
    means = {name: round(float(values.mean()), 4) for name, values in quality.items()}
    return Choice(_better(quality), len(indices), means)


def _better(quality: Mapping[str, FloatArray]) -> str:
    if OWN not in quality:
        return LINEAR
    difference = quality[OWN] - quality[LINEAR]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return OWN if difference.mean() > CLEAR * error else LINEAR


def _qualities(problem: Problem, outputs: Outputs, targets: Sequence[Target], classes: Sequence[str]) -> FloatArray:
    predictions = problem.decode(outputs, np.arange(len(targets)), classes, {})
    return np.array([problem.quality(p, t) for p, t in zip(predictions, targets, strict=True)])
