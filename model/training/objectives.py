"""What the training of a main model minimises: the problem's loss, and the terms that some strategies add to it."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from model.data.augment import augment
from model.networks.main import MainNetwork
from model.pretext.barlow_twins import SOLARIZED, barlow_loss
from model.pretext.views import distort
from model.problems.base import VectorProblem
from model.training.loop import Images
from model.training.recipes import Recipe

MARGIN = 1.0  # by which the higher of two losses is to be predicted higher (learning loss, Eq. 2: xi)
CRITIC_WEIGHT = 2e-3  # of the critic's term (WAAL, the authors' code for CIFAR-10: alpha)
PENALTY = 5.0  # of the critic's gradient penalty (the same)
LOSS_WEIGHT = 1.0  # of the loss prediction (learning loss, Eq. 1: lambda)
ATTACHED = (
    0.6  # share of the training in which its gradient reaches the backbone (learning loss, 4.1: 120 of 200 epochs)
)


class LabelObjective:
    """The loss against the targets on augmented images, and a term for each part of the network beside the head."""

    def __init__(
        self, module: MainNetwork, problem: VectorProblem, images: Images, truth: Tensor, pool: Images, recipe: Recipe
    ) -> None:
        """Take the labeled images with their encoded targets, and the pool that some parts draw from.

        pool: for a critic, without the labeled images.
        """
        self._module, self._problem, self._images, self._truth = module, problem, images, truth
        self._pool, self._recipe = pool, recipe

    def loss(self, positions: Tensor, generator: torch.Generator, done: float) -> Tensor:
        """Return the mean loss of the labeled images at ``positions``."""
        labeled = self._images.take(positions)
        images = augment(labeled, self._recipe.augmentation, generator)
        truth = self._truth[positions.to(self._truth.device)]
        n, views = len(images), self._views(labeled, generator)
        unlabeled = self._unlabeled(n, generator)
        # One pass for all: batch normalisation then sees in training what it sees in the pool.
        every = torch.cat([part for part in (images, views, unlabeled) if part is not None])
        embedded, predicted = self._module.forward_all(every, attached=done < ATTACHED)
        raw = self._module.head(self._module.dropout(embedded[:n])).float()
        losses = self._problem.loss(raw, truth, self._recipe.label_smoothing)
        total = losses.mean()
        if predicted is not None:
            rank = rank_loss if self._module.parts.losses == "ranked" else ranking_loss
            total = total + LOSS_WEIGHT * rank(predicted[:n].float(), losses.detach())
        if self._module.critic is not None and unlabeled is not None:
            balance = len(self._images) / len(self._pool)
            total = total + critic_loss(self._module.critic, embedded[:n], embedded[-n:], balance, generator)
        if self._module.projector is not None and views is not None:
            first, second = (self._module.projector(part) for part in embedded[n : n + len(views)].chunk(2))
            total = total + self._recipe.gamma * barlow_loss(first, second, self._recipe.redundancy)
        return total

    def _unlabeled(self, wanted: int, generator: torch.Generator) -> Tensor | None:
        """Return as many images of the pool as labeled ones, changed alike; None without a critic or a pool."""
        if self._module.critic is None or not len(self._pool):
            return None
        drawn = self._pool.take(torch.randint(len(self._pool), (wanted,), generator=generator))
        return augment(drawn, self._recipe.augmentation, generator)

    def _views(self, labeled: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return two views of each labeled image, or of as many images of the pool, two at least.

        None without a projector, and of a single labeled image: nothing is correlated over a minibatch of one.
        """
        if self._module.projector is None or (self._recipe.views == "labeled" and len(labeled) < 2):
            return None
        images = labeled
        if self._recipe.views == "pool":
            drawn = torch.randint(len(self._pool), (max(len(labeled), 2),), generator=generator)
            images = self._pool.take(drawn)
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


def rank_loss(predicted: Tensor, losses: Tensor) -> Tensor:
    """Return the cross-entropy of which of two losses is higher (TA-VAAL, section 3.2, after RankCGAN).

    predicted, losses: (B,), paired as in ``ranking_loss``; of equal losses the second counts as higher.
    """
    half = len(predicted) // 2
    if half == 0:
        return predicted.sum() * 0.0
    gap = predicted[:half] - predicted[half : 2 * half]
    higher = (losses[:half] > losses[half : 2 * half]).float()
    return functional.binary_cross_entropy_with_logits(gap, higher)


def critic_loss(
    critic: nn.Module, labeled: Tensor, unlabeled: Tensor, balance: float, generator: torch.Generator
) -> Tensor:
    """Return WAAL's term, whose gradient makes the features alike and the critic tell them apart (Eq. 6).

    labeled, unlabeled: (B, D) features. balance: labeled images of all against unlabeled ones. With
    W = mean c(unlabeled) - balance mean c(labeled), the features go down W and the critic goes up, both at once where
    the authors take turns. The critic's gradient is kept near 1 by a penalty, which their code has with another sign.
    """
    fixed = {name: parameter.detach() for name, parameter in critic.named_parameters()}

    def difference(call: Callable[[Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
        return call(second).float().mean() - balance * call(first).float().mean()

    features = difference(lambda z: cast(Tensor, functional_call(critic, fixed, (z,))), labeled, unlabeled)
    known, unknown = labeled.detach().float(), unlabeled.detach().float()
    own = difference(critic, known, unknown)
    return CRITIC_WEIGHT * (features - own + PENALTY * gradient_penalty(critic, known, unknown, generator))


def gradient_penalty(critic: nn.Module, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mean squared distance from 1 of the critic's gradient, at both ends and between them."""
    share = torch.rand(len(first), 1, generator=generator).to(first.device)
    points = torch.cat([first + share * (second - first), first, second]).requires_grad_()
    slopes = torch.autograd.grad(critic(points).float().sum(), points, create_graph=True)[0]
    penalty: Tensor = (slopes.norm(dim=1) - 1).square().mean()
    return penalty
