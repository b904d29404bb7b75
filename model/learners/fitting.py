"""Fit the learner that the settings name, and load what any learner has written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model.errors import BadInput, ModelError, UnknownName
from model.learners import linear, own_network
from model.learners.base import Model, PoolImages
from model.learners.choice import choose
from model.learners.registry import AUTO, LEARNER_NAMES, LINEAR, OWN
from model.learners.settings import FitSettings
from model.learners.trials import Choice, is_due
from model.problems import Problem
from model.problems.base import Encoded, Target
from model.progress import Progress, ignore_progress
from model.querying.outputs import IntArray
from model.training.loop import read_weights

TRIAL_SHARE = 0.75  # of the progress of ``refine``

_DEFAULT = FitSettings()


@dataclass(frozen=True)
class Fitted:
    """What came out of a fit. learner: that was fitted. about: what there is to say of it, plain values."""

    learner: str
    about: dict[str, object]
    seconds: float


def fit(
    pool: PoolImages,
    indices: IntArray,
    truth: Encoded,
    problem: Problem,
    classes: Sequence[str],
    settings: FitSettings = _DEFAULT,
    *,
    out: Path,
    checkpoint: Path,
    pretext_weights: Path | None = None,
    progress: Progress = ignore_progress,
) -> Fitted:
    """Fit a model to the labeled images and write it to ``out``, whole or not at all.

    indices: (n,) pool indices of the labeled images. truth: (n, ...) their targets as ``problem.encode`` gives them.
    checkpoint: where a killed fit goes on from.
    """
    if settings.learner not in LEARNER_NAMES:
        raise UnknownName("learner", settings.learner, LEARNER_NAMES)
    if settings.learner == OWN or (settings.learner == AUTO and pool.features is None):
        summary = own_network.fit(
            pool.bank, indices, truth, problem, classes, settings,
            out=out, checkpoint=checkpoint, pretext_weights=pretext_weights, progress=progress,
        )  # fmt: skip
        return Fitted(OWN, {"network": summary.network, "init": summary.init}, summary.seconds)
    if pool.features is None:
        raise BadInput(f"the learner '{settings.learner}' needs the features of an encoder: set \"encoder\"")
    found = linear.fit_linear(
        pool.features, indices, truth, problem, classes, out=out, seed=settings.seed, progress=progress
    )
    return Fitted(LINEAR, {"features": found.features, "likelihood": found.likelihood}, found.seconds)


def refine(
    pool: PoolImages,
    indices: IntArray,
    targets: Sequence[Target],
    problem: Problem,
    classes: Sequence[str],
    settings: FitSettings,
    known: Choice | None,
    *,
    out: Path,
    checkpoint: Path,
    progress: Progress = ignore_progress,
) -> Choice:
    """Choose the learner where that is due, and write its model to ``out`` where it is not the linear head.

    It takes as long as several trainings of a network: ``fit`` gives a linear head meanwhile. known: the choice of an
    earlier round.
    """
    choice = known
    if is_due(known, len(indices)):
        share: Progress = lambda done: progress(TRIAL_SHARE * done)  # noqa: E731
        choice = choose(pool, indices, targets, problem, classes, settings, checkpoint=checkpoint, progress=share)
    if choice is None:
        return Choice()
    if choice.learner == OWN:
        own_network.fit(
            pool.bank, indices, problem.encode(targets, classes), problem, classes, replace(settings, learner=OWN),
            out=out, checkpoint=checkpoint, progress=lambda done: progress(TRIAL_SHARE + (1 - TRIAL_SHARE) * done),
        )  # fmt: skip
    return choice


def load_model(path: Path, device: str = "auto") -> Model:
    """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
    content = read_weights(path)
    if content is None:
        raise ModelError(f"{path} holds no main model, or it is damaged")
    if content.get("learner") == LINEAR:
        return linear.LinearModel.load(path)
    return own_network.Learner.load(path, device)
