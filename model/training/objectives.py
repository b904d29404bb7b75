"""What the training of a main model minimises: the problem's loss, and the terms that some strategies add to it."""

from collections.abc import Callable

import torch
from torch import Tensor

from model.data.augment import augment
from model.errors import ModelError
from model.networks.main import MainNetwork
from model.pretext.barlow_twins import SOLARIZED, barlow_loss
from model.pretext.views import distort
from model.problems.base import VectorProblem
from model.training.loop import Images
from model.training.recipes import Recipe

MARGIN = 1.0  # by which the higher of two losses is to be predicted higher (learning loss, Eq. 2: xi)
LOSS_WEIGHT = 1.0  # of the loss prediction (learning loss, Eq. 1: lambda)


class LabelObjective:
    """The loss against the targets on augmented images, and a term for each part of the network beside the head."""

    def __init__(
        self, module: MainNetwork, problem: VectorProblem, images: Images, truth: Tensor, pool: Images, recipe: Recipe
    ) -> None:
        """Take the labeled images with their encoded targets, and the whole pool, which joint training draws from."""
        self._module, self._problem, self._images, self._truth = module, problem, images, truth
        self._pool, self._recipe = pool, recipe

    def loss(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean loss of the labeled images at ``positions``."""
        images = augment(self._images.take(positions), self._recipe.augmentation, generator)
        truth = self._truth[positions.to(self._truth.device)]
        n, views = len(images), self._views(len(images), generator)
        # One pass for all: batch normalisation then sees in training what it sees in the pool.
        embedded, predicted = self._module.forward_all(images if views is None else torch.cat([images, views]))
        raw = self._module.head(self._module.dropout(embedded[:n])).float()
        losses = self._problem.loss(raw, truth, self._recipe.label_smoothing)
        total = losses.mean()
        if predicted is not None:
            total = total + LOSS_WEIGHT * ranking_loss(predicted[:n].float(), losses.detach())
        if self._module.projector is not None:
            first, second = (self._module.projector(part) for part in embedded[n:].chunk(2))
            total = total + self._recipe.gamma * barlow_loss(first, second, self._recipe.redundancy)
        return total

    def quality(self, beat: Callable[[], None]) -> float:
        """Refuse: without labels to spare there is nothing to choose an epoch by."""
        raise ModelError("a main model keeps its last epoch: there are no labels to choose another by")

    def _views(self, wanted: int, generator: torch.Generator) -> Tensor | None:
        """Return two views of images of the pool, labeled or not: as many as labeled ones, two at least."""
        if self._module.projector is None:
            return None
        images = self._pool.take(torch.randint(len(self._pool), (max(wanted, 2),), generator=generator))
        return torch.cat([distort(images, generator), distort(images, generator, solarize=SOLARIZED)])


def ranking_loss(predicted: Tensor, losses: Tensor) -> Tensor:
    """Return the hinge loss of pairs whose predicted order is wrong or too close (learning loss, Eq. 2).

    predicted, losses: (B,). Pairs are the first half with the second; what an odd number leaves over has none.
    """
    half = len(predicted) // 2
    if half == 0:
        return predicted.sum() * 0.0
    gap = predicted[:half] - predicted[half : 2 * half]
    sign = torch.sign(losses[:half] - losses[half : 2 * half])
    return (MARGIN - sign * gap).clamp(min=0).mean()
