"""Fit the learner that the settings name, and load what any learner has written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.errors import BadInput, ModelError, UnknownName
from model.learners import finetune
from model.learners.base import Fitted, Model, PoolImages
from model.learners.choice import choose
from model.learners.registry import AUTO, FINETUNE, LEARNER_NAMES, LEARNERS, LINEAR, OWN
from model.learners.settings import FitSettings
from model.learners.trials import Choice, before_labels_tell, is_due
from model.problems import Problem
from model.problems.base import Encoded, Target
from model.progress import Progress, ignore_progress
from model.querying.outputs import IntArray
from model.training.loop import read_weights

TRIAL_SHARE = 0.75  # of the progress of ``refine``

_DEFAULT = FitSettings()


def learner_for(name: str, problem: Problem, *, features: bool) -> str:
    """Return the learner that fits a problem where ``name`` is configured, which may be ``auto``.

    features: whether there are any of an encoder. Raises UnknownName, or BadInput for one of another problem.
    """
    if name not in LEARNER_NAMES:
        raise UnknownName("learner", name, LEARNER_NAMES)
    if name == AUTO:
        fitting = (learner for learner in problem.learners if features or not LEARNERS[learner].encoder)
        return next(fitting, problem.learners[0])
    if name not in problem.learners:
        raise BadInput(f"the learner '{name}' does not fit {problem.name}: choose {', '.join(problem.learners)}")
    return name


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
    """Fit the learner that the settings name, see ``LearnerCode.fit``; ``auto`` is the problem's first."""
    learner = learner_for(settings.learner, problem, features=pool.features is not None)
    return LEARNERS[learner].load().fit(
        pool, indices, truth, problem, classes, settings,
        out=out, checkpoint=checkpoint, pretext_weights=pretext_weights, progress=progress,
    )  # fmt: skip


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
    earlier round. Where the activations of a fine-tuned block are not kept any more, the linear head stays.
    """
    choice = known or before_labels_tell(pool.bank.side)
    if is_due(known, len(indices)):
        share: Progress = lambda done: progress(TRIAL_SHARE * done)  # noqa: E731
        choice = choose(pool, indices, targets, problem, classes, settings, checkpoint=checkpoint, progress=share)
    finetuned = pool.activations is not None and bool(pool.activations.knows(indices).all())
    if choice.learner == FINETUNE and not finetuned:
        return replace(choice, learner=LINEAR)
    if choice.learner != LINEAR:
        chosen = replace(settings, learner=choice.learner)
        fit(
            pool, indices, problem.encode(targets, classes), problem, classes, chosen,
            out=out, checkpoint=checkpoint, progress=lambda done: progress(TRIAL_SHARE + (1 - TRIAL_SHARE) * done),
        )  # fmt: skip
    finetune.forget(checkpoint)
    return choice


def load_model(path: Path, device: str = "auto") -> Model:
    """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
    content = read_weights(path)
    learner = None if content is None else LEARNERS.get(content.get("learner", OWN))
    if learner is None:
        raise ModelError(f"{path} holds no main model, or it is damaged")
    return learner.load().load(path, device)
