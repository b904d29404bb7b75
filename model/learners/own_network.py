"""Fit a network of our own to the targets given so far."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.data.bank import ImageBank
from model.device import pick_device
from model.errors import BadInput, UnknownName
from model.learners.base import Fitted, PoolImages, checked_labels
from model.learners.folds import digest, forget_folds, share_of
from model.learners.folds import out_of_fold as out_of_fold_arrays
from model.learners.learner import FORMAT, Learner
from model.learners.registry import OWN
from model.learners.settings import FitSettings
from model.networks.backbones import network_of
from model.networks.initialization import Start, choose_start
from model.networks.main import MainNetwork, Parts
from model.problems import Problem
from model.problems.base import Decoding, Encoded, VectorProblem, as_vector
from model.progress import Progress, ignore_progress
from model.querying.outputs import IntArray, Outputs
from model.training.loop import Images, recalibrate, train, write_weights
from model.training.objectives import LabelObjective
from model.training.recipes import RECIPES, Recipe, adapted, sample
from model.training.registry import JOINTS

__all__ = ["RECIPES", "FitSettings", "Learner", "LearnerSummary", "fit_network"]

MEMBER_STRIDE = 7919  # between the seeds of an ensemble's members, so that they are no other run's
FOLD_STRIDE = 104_729  # between the seeds of the models that the decoding is chosen by
FEWEST_IN_FOLD = 10  # labels a fold below which the decoding is not chosen

_DEFAULT = FitSettings()


@dataclass(frozen=True)
class LearnerSummary:
    """What came out of a fit; init is where the weights really came from."""

    network: str
    init: str
    epochs: int
    seconds: float
    mirrored: bool


def fit_network(
    bank: ImageBank,
    indices: IntArray,
    truth: Encoded,
    problem: VectorProblem,
    classes: Sequence[str],
    settings: FitSettings = _DEFAULT,
    *,
    out: Path,
    checkpoint: Path,
    pretext_weights: Path | None = None,
    progress: Progress = ignore_progress,
) -> LearnerSummary:
    """Train a model on the labeled images and write it to ``out``, whole or not at all.

    indices: (n,) pool indices of the labeled images. truth: (n, ...) their targets as ``problem.encode`` gives them.
    checkpoint: where a killed fit goes on from; it and those beside it are removed at the end. Where the problem tunes
    its decoding, further models are trained on parts of the labels first.
    """
    started = time.monotonic()
    indices, truth = _checked(bank, indices, truth, problem, classes)
    if settings.joint not in JOINTS:
        raise UnknownName("joint training", settings.joint, JOINTS)
    if settings.needs - problem.outputs:
        missing = ", ".join(sorted(settings.needs - problem.outputs))
        raise BadInput(f"models of the problem {problem.name} do not give {missing}")
    training = _Training.prepare(bank, indices, truth, problem, classes, settings, pretext_weights)
    folds = _folds(problem, len(indices), settings.seed)
    parts = training.parts
    steps = parts.members + len(folds)
    decoding = training.tune(folds, checkpoint, settings.seed, lambda share: progress(share * len(folds) / steps))
    everything, members = np.arange(len(indices)), []
    for member in range(parts.members):
        share = share_of(progress, len(folds) + member, steps)
        seed = settings.seed + MEMBER_STRIDE * member
        members.append(training.run(everything, _numbered(checkpoint, member), seed, share, member))
    states = [module.state_without_projector() for module in members]
    write_weights(out, {**training.about, "format": FORMAT, "seed": settings.seed, "decoding": dict(decoding),
                        "module": states[0], "others": states[1:], "labeled": torch.from_numpy(indices)})  # fmt: skip
    for member in range(parts.members):
        _numbered(checkpoint, member).unlink(missing_ok=True)
    forget_folds(checkpoint, len(folds))
    recipe, start = training.recipe, training.start
    seconds = time.monotonic() - started
    return LearnerSummary(start.network, start.init, recipe.plan.epochs, seconds, recipe.augmentation.flip)


def fit(
    pool: PoolImages,
    indices: IntArray,
    truth: Encoded,
    of: Problem,
    classes: Sequence[str],
    settings: FitSettings,
    *,
    out: Path,
    checkpoint: Path,
    pretext_weights: Path | None = None,
    progress: Progress = ignore_progress,
) -> Fitted:
    """Train a network, as a learner of the registry does: on the image bank alone."""
    found = fit_network(
        pool.bank, indices, truth, as_vector(of), classes, settings,
        out=out, checkpoint=checkpoint, pretext_weights=pretext_weights, progress=progress,
    )  # fmt: skip
    return Fitted(OWN, {"network": found.network, "init": found.init}, found.seconds)


def load(path: Path, device: str = "auto") -> Learner:
    """Load what ``fit`` wrote."""
    return Learner.load(path, device)


def out_of_fold(
    bank: ImageBank,
    indices: IntArray,
    truth: Encoded,
    problem: VectorProblem,
    classes: Sequence[str],
    settings: FitSettings,
    folds: Sequence[IntArray],
    *,
    checkpoint: Path,
    progress: Progress = ignore_progress,
) -> Outputs:
    """Return what networks that were trained on the other folds say of each labeled image, in their order.

    folds: rows of the labels, each in one of them. checkpoint: where a killed call goes on from; what it leaves beside
    is removed at the end.
    """
    indices, truth = _checked(bank, indices, truth, problem, classes)
    training = _Training.prepare(bank, indices, truth, problem, classes, settings, None)
    outputs = training.out_of_fold(folds, checkpoint, settings.seed, progress)
    forget_folds(checkpoint, len(folds))
    return outputs


@dataclass(frozen=True)
class _Training:
    """What the trainings of one fit share: images, targets, recipe. about: plain values that tell it from others."""

    bank: ImageBank
    indices: IntArray
    truth: Encoded
    problem: VectorProblem
    classes: Sequence[str]
    recipe: Recipe
    start: Start
    parts: Parts
    device: torch.device

    @classmethod
    def prepare(
        cls,
        bank: ImageBank,
        indices: IntArray,
        truth: Encoded,
        problem: VectorProblem,
        classes: Sequence[str],
        settings: FitSettings,
        pretext_weights: Path | None,
    ) -> "_Training":
        """Settle recipe, parts and initial weights."""
        parts, device = Parts.of(settings.needs, settings.joint), pick_device(settings.device)
        network = network_of(settings.recipe, settings.network)
        recipe = adapted(
            settings.recipe, bank, indices, truth, epochs=settings.epochs, joint=settings.joint, seed=settings.seed
        )
        start = choose_start(settings.init, network, pretext_weights, bank.side, settings.previous)
        return cls(bank, indices, truth, problem, classes, recipe, start, parts, device)

    @property
    def about(self) -> dict[str, Any]:
        """Return what stands in the weights."""
        return {
            "network": self.start.network,
            "init": self.start.init,
            "enlarged": self.start.enlarged,
            "side": self.bank.side,
            "problem": self.problem.name,
            "classes": len(self.classes),
            "parts": asdict(self.parts),
        }

    def run(
        self, rows: IntArray, checkpoint: Path, seed: int, progress: Progress, member: int | None = None
    ) -> MainNetwork:
        """Return a network that is trained on these rows of the labeled images. member: see ``Start.build``."""
        module = self.start.build(self.bank.side, self.problem, len(self.classes), seed, self.parts, member)
        module = module.to(self.device)
        pool = Images(self.bank, self._drawn_from(rows), self.device)
        objective = LabelObjective(
            module, self.problem, Images(self.bank, self.indices[rows], self.device),
            torch.from_numpy(self.truth[rows]).to(self.device), pool, self.recipe,
        )  # fmt: skip
        train(
            module, objective, len(rows), self.recipe.plan,
            checkpoint=checkpoint, identity={**self._identity(rows), "start": digest(*_as_arrays(module))},
            seed=seed, device=self.device, progress=progress,
        )  # fmt: skip
        if self.recipe.recalibrate:
            recalibrate(module, Images(self.bank, sample(self.bank, self.recipe.recalibrate, seed), self.device))
        return module

    def _drawn_from(self, rows: IntArray) -> IntArray:
        """Return the pool indices of the images that parts of the network see besides the labeled ones."""
        everything = np.arange(len(self.bank))
        if self.parts.critic:
            return np.setdiff1d(everything, self.indices[rows])
        return everything if self.parts.projector and self.recipe.views == "pool" else everything[:0]

    def tune(self, folds: Sequence[IntArray], checkpoint: Path, seed: int, progress: Progress) -> Decoding:
        """Return what the problem chooses from what models say of the fold that they were not trained on."""
        if not folds:
            return {}
        return self.problem.tune(self.out_of_fold(folds, checkpoint, seed, progress), self.truth, self.classes)

    def out_of_fold(self, folds: Sequence[IntArray], checkpoint: Path, seed: int, progress: Progress) -> Outputs:
        """Return what models say of the fold that they were not trained on, for all labeled images."""

        def predict(fold: int, rows: IntArray, held: IntArray, path: Path, share: Progress) -> dict[str, Any]:
            module = self.run(rows, path, seed + FOLD_STRIDE * (fold + 1), share)
            learner = Learner([module], self.problem, len(self.classes), self.bank.side, self.device)
            outputs = learner.predict(self.bank, self.indices[held])
            return {name: getattr(outputs, name) for name in self.problem.base_outputs}

        def identity(rows: IntArray) -> dict[str, Any]:
            return {**self._identity(rows), "seed": seed}

        given = len(self.indices), folds, predict, identity
        return Outputs(**out_of_fold_arrays(*given, checkpoint=checkpoint, progress=progress))

    def _identity(self, rows: IntArray) -> dict[str, Any]:
        return {**self.about, "labels": digest(self.indices[rows], self.truth[rows]), "recipe": asdict(self.recipe)}


def _folds(problem: VectorProblem, labels: int, seed: int) -> list[IntArray]:
    """Return the rows of the labels in each fold, ascending; no fold where the labels are too few."""
    if not problem.folds or labels < FEWEST_IN_FOLD * problem.folds:
        return []
    shuffled = np.random.default_rng([seed, FOLD_STRIDE]).permutation(labels)
    return [np.sort(shuffled[fold :: problem.folds]) for fold in range(problem.folds)]


def _checked(
    bank: ImageBank, indices: IntArray, truth: Encoded, problem: VectorProblem, classes: Sequence[str]
) -> tuple[IntArray, Encoded]:
    indices, truth = checked_labels(indices, truth, problem, classes)
    if not 0 <= int(indices.min()) <= int(indices.max()) < len(bank):
        raise BadInput(f"pool indices {indices.min()} to {indices.max()} do not fit a bank of {len(bank)} images")
    return indices, truth


def _as_arrays(module: MainNetwork) -> list[npt.NDArray[Any]]:
    return [tensor.detach().cpu().numpy() for tensor in module.state_dict().values()]


def _numbered(checkpoint: Path, member: int) -> Path:
    """Return where a member of an ensemble keeps its checkpoint: the first where a single model does."""
    return checkpoint if member == 0 else checkpoint.with_name(f"{checkpoint.stem}-{member}{checkpoint.suffix}")
