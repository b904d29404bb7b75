"""How the main model is trained: recipes by name, and what they become for the images and labels at hand."""

from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Literal

import numpy as np

from model.data import flip_check
from model.data.augment import NONE, Augmentation
from model.data.bank import ImageBank
from model.errors import BadInput, UnknownName
from model.problems.base import Encoded
from model.querying.outputs import IntArray
from model.training.loop import Plan
from model.training.registry import TINY

SMALL = 64  # pixels; larger images are cropped and resized in the paper's recipe, smaller ones moved
RESIZED_CROP = 0.08  # smallest area of a random resized crop, as a share of the image (torchvision's default)
LEAST_PASSES = 24


@dataclass(frozen=True)
class Recipe:
    """A way to train the main model.

    fit_mirror: mirror images only where the pool itself looks mirror-symmetric. recalibrate: unlabeled images of the
    pool that batch normalisation is measured on at the end. steps: minibatches for 100 labels, instead of the plan's
    epochs; 0: the plan's epochs. least: passes that labels get at least, however many there are. large: the
    augmentation of images of more than SMALL pixels, where it is another one. joint_augmented: whether joint training
    augments labeled images (DALBT's classifier sees images as they are). views: the images that joint training has two
    views of: those of the minibatch, or drawn from the pool. gamma, redundancy: weights of the joint training (DALBT,
    Eq. 2: gamma and lambda).
    """

    plan: Plan
    augmentation: Augmentation
    label_smoothing: float
    fit_mirror: bool
    recalibrate: int = 0
    steps: int = 0
    least: int = 1
    large: Augmentation | None = None
    joint_augmented: bool = True
    views: Literal["pool", "labeled"] = "pool"
    gamma: float = 4e-3  # about 1 / width of the projections: an untrained network's share of the loss is about 1
    redundancy: float = 5e-3  # Barlow Twins, section 3.3

    def epochs(self, labels: int, side: int) -> int:
        """Return the passes that a number of labels gets: minibatches grow with its root, from 100 labels on.

        A tiny picture costs a quarter of the time, and gets half as many again. There are ``least`` passes in any case.
        """
        if not self.steps:
            return self.plan.epochs
        wanted = self.steps * sqrt(max(labels, 100) / 100) * (1.5 if side <= TINY else 1.0)
        return max(ceil(wanted / self.plan.steps(labels)), self.least)


RECIPES = {
    # PT4AL, section 5.1: 200 epochs, flip, and random resized crop; its code, which is for CIFAR-10, has lr 0.1 -> 0.01
    # at 160, and a random crop of the picture in a black frame.
    "paper": Recipe(
        Plan(200, 128, lr=0.1, nesterov=False, schedule="two_steps", checkpoint_s=2.0, fill=False),
        Augmentation(flip=True, shift=0.125, edge="zeros"),
        label_smoothing=0.0,
        fit_mirror=False,
        large=Augmentation(flip=True, area=RESIZED_CROP),
        joint_augmented=False,
    ),
    "auto": Recipe(
        Plan(1, 64, lr=0.1, min_steps=4, checkpoint_s=2.0),
        Augmentation(flip=True, shift=0.125),
        label_smoothing=0.1,
        fit_mirror=True,
        recalibrate=1024,
        steps=120,
        least=LEAST_PASSES,
    ),
}

# What a joint training brings with it, whatever the recipe.
JOINT_RECIPES = {
    # DALBT, section 4.1: 150 epochs, minibatches of 64, learning rate and constant 0.001, weight decay 1e-5, images as
    # they are. It names no optimizer: its learning rate is Adam's. lambda is Barlow Twins'.
    "dalbt": Recipe(
        Plan(150, 64, lr=1e-3, weight_decay=1e-5, schedule="constant", checkpoint_s=2.0, fill=False, optimizer="adam"),
        NONE,
        label_smoothing=0.0,
        fit_mirror=False,
        joint_augmented=False,
        views="labeled",
        gamma=1e-3,
    ),
}


def adapted(
    name: str,
    bank: ImageBank,
    indices: IntArray,
    truth: Encoded,
    *,
    epochs: int | None,
    joint: str,
    seed: int,
) -> Recipe:
    """Fit a recipe to the images: epochs on request, no mirroring where the pool has no mirror images.

    truth: (n, ...) encoded targets of the labeled images. joint: what is trained together with them; some have a recipe
    of their own.
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    recipe = JOINT_RECIPES.get(joint, RECIPES[name])
    plan = replace(recipe.plan, epochs=recipe.epochs(len(indices), bank.side) if epochs is None else epochs)
    if plan.epochs < 1:
        raise BadInput(f"a training needs at least 1 epoch, found {plan.epochs}")
    augmentation = recipe.large if recipe.large and bank.side > SMALL else recipe.augmentation
    if joint != "none" and not recipe.joint_augmented:
        augmentation = NONE
    if recipe.fit_mirror and augmentation.flip:
        augmentation = replace(augmentation, flip=_may_mirror(bank, indices, truth, seed))
    return replace(recipe, plan=plan, augmentation=augmentation)


def sample(bank: ImageBank, n: int, seed: int) -> IntArray:
    """Draw images that stand for the pool, at most ``n``."""
    return np.sort(np.random.default_rng(seed).permutation(len(bank))[:n])


def _may_mirror(bank: ImageBank, indices: IntArray, truth: Encoded, seed: int) -> bool:
    """Tell whether neither the pool nor the targets speak against mirror images; equal targets are of one class."""
    if flip_check.mirror_share(bank.gather(sample(bank, flip_check.SAMPLE, seed)), seed) >= flip_check.LIMIT:
        return False
    few = np.random.default_rng(seed).permutation(len(indices))[: flip_check.SAMPLE]
    targets = truth[few]
    if targets.ndim > 1:
        targets = np.unique(targets.reshape(len(few), -1), axis=0, return_inverse=True)[1].reshape(-1)
    return not flip_check.mirror_changes_class(bank.gather(indices[few]), targets, seed)
