"""The main task: fit a classifier to the labels given so far, and say what it thinks of the pool."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model import mirror
from model.augment import Augmentation, augment
from model.bank import ImageBank
from model.device import pick_device
from model.errors import BadInput, ModelError, UnknownName
from model.metrics import accuracy
from model.names import INITS
from model.networks import Network, build_backbone, load_imagenet, resolve, seeded
from model.outputs import IntArray, Outputs
from model.pretext.run import TINY, read_pretext
from model.training import Images, Plan, Progress, ignore_progress, read_weights, recalibrate, train, write_weights

CHUNK = 256  # images of a scoring minibatch

_FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """A way to train the main model.

    fit_mirror: mirror images only where the pool itself looks mirror-symmetric. recalibrate: unlabeled images of the
    pool that batch normalisation is measured on at the end. steps: minibatches for 100 labels, instead of the plan's
    epochs; 0: the plan's epochs.
    """

    plan: Plan
    augmentation: Augmentation
    label_smoothing: float
    fit_mirror: bool
    recalibrate: int = 0
    steps: int = 0

    def epochs(self, labels: int, side: int) -> int:
        """Return the passes that a number of labels gets: minibatches grow with its root, from 100 labels on.

        A tiny picture costs a quarter of the time, and gets half as many again.
        """
        if not self.steps:
            return self.plan.epochs
        wanted = self.steps * sqrt(max(labels, 100) / 100) * (1.5 if side <= TINY else 1.0)
        return ceil(wanted / self.plan.steps(labels))


RECIPES = {
    # PT4AL, section 5.1: random crop and flip, 200 epochs, lr 0.1 -> 0.01 at 160.
    "paper": Recipe(
        Plan(200, 128, lr=0.1, nesterov=False, schedule="two_steps", checkpoint_s=2.0),
        Augmentation(flip=True, shift=0.125),
        label_smoothing=0.0,
        fit_mirror=False,
    ),
    "auto": Recipe(
        Plan(1, 64, lr=0.1, min_steps=4, checkpoint_s=2.0),
        Augmentation(flip=True, shift=0.125),
        label_smoothing=0.1,
        fit_mirror=True,
        recalibrate=1024,
        steps=120,
    ),
}


@dataclass(frozen=True)
class LearnerSummary:
    """What came out of a fit; init is where the weights really came from."""

    network: str
    init: str
    epochs: int
    seconds: float
    train_accuracy: float
    mirrored: bool


def fit(
    bank: ImageBank,
    indices: IntArray,
    labels: IntArray,
    *,
    classes: int,
    out: Path,
    checkpoint: Path,
    network: str = "auto",
    init: str = "pretext",
    pretext_weights: Path | None = None,
    recipe: str = "auto",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = ignore_progress,
) -> LearnerSummary:
    """Train a classifier on the labeled images and write it to ``out``, whole or not at all.

    indices: (n,) pool indices of the labeled images. labels: (n,) their class ids, below ``classes``. checkpoint: where
    a killed fit goes on from; removed at the end. network: ``auto`` is that of the pretext weights where the fit starts
    from them.
    """
    started = time.monotonic()
    indices, labels = _checked(bank, indices, labels, classes)
    where = pick_device(device)
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    start = _start(init, network, pretext_weights, bank.side, where)
    how = _adapted(RECIPES[recipe], bank, indices, labels, epochs, seed)
    module = start.build(bank.side, classes, seed).to(where)
    objective = _LabelObjective(module, Images(bank, indices, where), torch.from_numpy(labels).to(where), how)
    about = {"network": start.network, "init": start.init, "side": bank.side, "classes": classes}
    train(
        module, objective, len(indices), how.plan,
        checkpoint=checkpoint, identity={**about, "labels": _digest(indices, labels)}, seed=seed, device=where,
        progress=progress,
    )  # fmt: skip
    if how.recalibrate:
        recalibrate(module, Images(bank, _sample(bank, how.recalibrate, seed), where))
    write_weights(out, {**about, "format": _FORMAT, "seed": seed, "module": module.state_dict()})
    checkpoint.unlink(missing_ok=True)
    reached = Learner(module, bank.side, classes, where).evaluate(bank, indices, labels)
    return LearnerSummary(
        start.network, start.init, how.plan.epochs, time.monotonic() - started, reached, how.augmentation.flip
    )


class Learner:
    """A trained main model. Scores are computed in fp32, the same on every call.

    MC dropout and ensembles belong here, as further methods that fill ``Outputs.mc_probs``.
    """

    def __init__(self, module: Network, side: int, classes: int, device: torch.device) -> None:
        self._module, self._device = module.eval(), device
        self.side, self.classes = side, classes

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "Learner":
        """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
        content = read_weights(path)
        if content is None or content.get("format") != _FORMAT or "classes" not in content:
            raise ModelError(f"{path} holds no main model, or it is damaged")
        where = pick_device(device)
        module = Network(build_backbone(content["network"], content["side"], seed=0), content["classes"])
        module.load_state_dict(content["module"])
        module = module.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(module, content["side"], content["classes"], where)

    @torch.inference_mode()
    def predict(
        self,
        bank: ImageBank,
        indices: IntArray | None = None,
        *,
        embeddings: bool = False,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return the posteriors (n, C), and on request the embeddings (n, D), of these images or the whole bank."""
        if bank.side != self.side:
            raise BadInput(f"the main model is for images of {self.side} pixels, the bank has {bank.side}")
        indices = np.arange(len(bank)) if indices is None else np.asarray(indices, np.int64)
        n = len(indices)
        images = Images(bank, indices, self._device)
        probs = np.empty((n, self.classes), np.float32)
        features = np.empty((n, self._module.backbone.dim), np.float32) if embeddings else None
        for offset in range(0, n, CHUNK):
            progress(offset / n)
            part = slice(offset, min(offset + CHUNK, n))
            embedded = self._module.backbone(images.take(torch.arange(part.start, part.stop)))
            probs[part] = self._module.head(embedded).softmax(dim=1).cpu().numpy()
            if features is not None:
                features[part] = embedded.cpu().numpy()
        progress(1.0)
        if not np.isfinite(probs).all():
            raise ModelError("the main model's posteriors are not finite numbers: it has diverged")
        return Outputs(probs=probs, embeddings=features)

    def evaluate(self, bank: ImageBank, indices: IntArray, labels: IntArray) -> float:
        """Return the accuracy on these images."""
        probs = self.predict(bank, indices).probs
        reached = None if probs is None else accuracy(probs.argmax(axis=1), np.asarray(labels))
        if reached is None:
            raise BadInput("there are no images to measure the accuracy on")
        return reached


@dataclass(frozen=True)
class _Start:
    """Where the weights of a fit come from."""

    network: str
    init: str
    pretext: dict[str, Any] | None

    def build(self, side: int, classes: int, seed: int) -> Network:
        backbone = build_backbone(self.network, side, seed)
        if self.init == "pretrained":
            load_imagenet(backbone)
        if self.pretext is not None:
            prefix = self.pretext["backbone_prefix"]
            state = self.pretext["module"].items()
            backbone.load_state_dict(
                {key.removeprefix(prefix): value for key, value in state if key.startswith(prefix)}
            )
        module = seeded(lambda: Network(backbone, classes), seed)
        return module.to(memory_format=torch.channels_last)


def _start(init: str, network: str, weights: Path | None, side: int, device: torch.device) -> _Start:
    """Settle network and initial weights; pretext weights that do not fit are not used (see LearnerSummary.init)."""
    if init not in INITS:
        raise UnknownName("init", init, INITS)
    if init == "pretrained":
        return _Start("resnet18" if network == "auto" else resolve(network, device), init, None)
    if init == "pretext" and weights is not None:
        content = read_pretext(weights, side)
        usable = content["backbone_prefix"] is not None and network in ("auto", content["network"])
        if usable:
            return _Start(content["network"], init, content)
    return _Start(resolve(network, device), "scratch", None)


class _LabelObjective:
    """Cross-entropy against the labels, on augmented images."""

    def __init__(self, module: Network, images: Images, labels: Tensor, recipe: Recipe) -> None:
        self._module, self._images, self._labels, self._recipe = module, images, labels, recipe

    def loss(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        images = augment(self._images.take(positions), self._recipe.augmentation, generator)
        truth = self._labels[positions.to(self._labels.device)]
        logits = self._module(images).float()
        return functional.cross_entropy(logits, truth, label_smoothing=self._recipe.label_smoothing)

    def quality(self, beat: Callable[[], None]) -> float:
        """Refuse: without labels to spare there is nothing to choose an epoch by."""
        raise ModelError("a main model keeps its last epoch: there are no labels to choose another by")


def _adapted(
    recipe: Recipe, bank: ImageBank, indices: IntArray, labels: IntArray, epochs: int | None, seed: int
) -> Recipe:
    """Fit a recipe to the images: epochs on request, no mirroring where the pool has no mirror images."""
    plan = replace(recipe.plan, epochs=recipe.epochs(len(indices), bank.side) if epochs is None else epochs)
    if plan.epochs < 1:
        raise BadInput(f"a training needs at least 1 epoch, found {plan.epochs}")
    augmentation = recipe.augmentation
    if recipe.fit_mirror and augmentation.flip:
        augmentation = replace(augmentation, flip=_may_mirror(bank, indices, labels, seed))
    return replace(recipe, plan=plan, augmentation=augmentation)


def _may_mirror(bank: ImageBank, indices: IntArray, labels: IntArray, seed: int) -> bool:
    """Say whether neither the pool nor the labels speak against mirror images."""
    if mirror.mirror_share(bank.gather(_sample(bank, mirror.SAMPLE, seed)), seed) >= mirror.LIMIT:
        return False
    few = np.random.default_rng(seed).permutation(len(indices))[: mirror.SAMPLE]
    return not mirror.mirror_changes_class(bank.gather(indices[few]), labels[few], seed)


def _sample(bank: ImageBank, n: int, seed: int) -> IntArray:
    """Draw images that stand for the pool, at most ``n``."""
    return np.sort(np.random.default_rng(seed).permutation(len(bank))[:n])


def _checked(bank: ImageBank, indices: IntArray, labels: IntArray, classes: int) -> tuple[IntArray, IntArray]:
    indices, labels = np.asarray(indices, np.int64), np.asarray(labels, np.int64)
    if len(indices) != len(labels) or len(indices) == 0:
        raise BadInput(f"found {len(indices)} labeled images and {len(labels)} labels")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise BadInput(f"class ids {labels.min()} to {labels.max()} do not fit {classes} classes")
    if not 0 <= int(indices.min()) <= int(indices.max()) < len(bank):
        raise BadInput(f"pool indices {indices.min()} to {indices.max()} do not fit a bank of {len(bank)} images")
    return indices, labels


def _digest(indices: IntArray, labels: IntArray) -> str:
    """Return what tells one labeled set from another in a checkpoint."""
    return hashlib.sha256(indices.tobytes() + labels.tobytes()).hexdigest()
