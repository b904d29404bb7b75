"""Which learner suits a project, by the labels alone: cheap learners first, dear ones only where they may be ahead.

A network of our own is ahead where pictures are unlike those that the encoder was trained on, and far behind elsewhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model.errors import BadInput
from model.learners import finetune, linear, own_network
from model.learners.base import PoolImages
from model.learners.folds import FOLDS, deal
from model.learners.registry import FINETUNE, LINEAR, OWN
from model.learners.settings import FitSettings
from model.learners.trials import Choice, before_labels_tell
from model.problems.base import Problem, Target, as_vector
from model.progress import Progress, ignore_progress
from model.querying.outputs import FloatArray, IntArray, Outputs

CLEAR = 0.5  # standard errors that a dearer learner has to be ahead: trained on part of the labels, it is underrated
GOOD = 0.97  # quality of a learner out of fold from which no dearer one is tried
TUNING_SHARE = 0.3  # of the progress


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
    """Compare the learners by cross-validation on the labels; a cheaper one stays where the difference may be chance.

    indices: (n,) pool indices of the labeled images. targets: theirs. checkpoint: where a killed trial goes on from.
    The last block of the encoder is tried where its activations are there.
    """
    truth = problem.encode(targets, classes)
    _, folds = deal(truth, FOLDS, settings.seed)
    if pool.features is None:
        raise BadInput("there are no features of an encoder to compare the learners on")

    def qualities(outputs: Outputs) -> FloatArray:
        predictions = problem.decode(outputs, np.arange(len(targets)), classes, {})
        return np.array([problem.quality(p, t) for p, t in zip(predictions, targets, strict=True)])

    vector = as_vector(problem)
    quality = {LINEAR: qualities(linear.out_of_fold(pool.features, indices, truth, vector, classes, folds))}
    given = indices, truth, vector, classes, settings, folds
    share = 0.0
    if pool.activations is not None and _may_be_beaten(quality) and pool.activations.knows(indices).all():
        share = TUNING_SHARE
        tuning: Progress = lambda done: progress(TUNING_SHARE * done)  # noqa: E731
        quality[FINETUNE] = qualities(finetune.out_of_fold(pool, *given, checkpoint=checkpoint, progress=tuning))
    if _may_be_beaten(quality):
        rest: Progress = lambda done: progress(share + (1 - share) * done)  # noqa: E731
        quality[OWN] = qualities(own_network.out_of_fold(pool.bank, *given, checkpoint=checkpoint, progress=rest))
    means = {name: round(float(values.mean()), 4) for name, values in quality.items()}
    return Choice(_better(quality, before_labels_tell(pool.bank.side).learner), len(indices), means)


def _may_be_beaten(quality: Mapping[str, FloatArray]) -> bool:
    return max(float(values.mean()) for values in quality.values()) < GOOD


def _better(quality: Mapping[str, FloatArray], preferred: str) -> str:
    """Return the learner that is clearly ahead of the one that is preferred, and of the cheaper ones behind it.

    quality: of each label, cheap learners first.
    """
    best = preferred if preferred in quality else LINEAR
    for name, values in quality.items():
        difference = values - quality[best]
        if difference.mean() > CLEAR * difference.std(ddof=1) / np.sqrt(len(difference)):
            best = name
    return best
