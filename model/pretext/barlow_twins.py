"""Barlow Twins (Zbontar et al. 2021), the self-supervised half of DALBT."""

from itertools import permutations
from typing import cast

import torch
from torch import Tensor, nn

from model.device import full_precision
from model.errors import BadInput
from model.networks.backbones import Backbone
from model.networks.heads import projector
from model.pretext.base import PretextTask
from model.pretext.views import VIEWS, distort

WIDTH = 256  # of the projections; the paper's 8192 is for ImageNet
LAMBDA = 5e-3  # weight of the redundancy between two dimensions (section 3.3)
SOLARIZED = 0.2  # share of the second views (appendix A)
MEMORY = 0.1  # weight of the newest minibatch in the running correlation, as in batch normalisation


class BarlowTwins(PretextTask):
    """Make the cross-correlation of two views' projections the identity.

    The loss is one of a minibatch (Eq. 1, 2): with a, b (B, D) the standardised projections of the views, T the
    identity, C = (1/B) sum_n a_n b_n^T and W = 1 on the diagonal and lambda off it,

        L = sum_ij W_ij (T_ij - C_ij)^2 = (1/B) sum_n l_n,    l_n = sum_ij W_ij (T_ij - C_ij) (T_ij - a_ni b_nj).

    l_n is the loss of an image and may be negative: the mean of l over a minibatch is exactly L with the same gradient,
    and l_n - L is half the derivative of L by the weight of image n. In ``eval`` mode C and the moments of the
    standardisation are running means of the training, so that the loss of an image depends on no other image; it is the
    mean over all pairs of four views. The loss is divided by D, so that the learning rate does not depend on D.
    """

    name = "barlow_twins"
    needs_generator = True

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a projector of three layers and the standardisation after it."""
        return _Twins(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return l_n / D of each image, (B,); raise BadInput for a training minibatch of a single image."""
        twins = cast(_Twins, net)
        if twins.training and len(images) < 2:
            raise BadInput("barlow_twins correlates over a minibatch: it trains on at least 2 images at once, found 1")
        solarized = [0.0, SOLARIZED] * (1 if twins.training else VIEWS // 2)
        views = [twins(distort(images, generator, solarize=share)) for share in solarized]
        pairs = [(views[0], views[1])] if twins.training else list(permutations(views, 2))
        with full_precision(images):
            losses = [barlow_losses(one, other, twins.correlate(one, other)) for one, other in pairs]
        return torch.stack(losses).mean(dim=0) / WIDTH


class _Twins(nn.Module):
    correlation: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector(backbone.dim, 2 * WIDTH, 2 * WIDTH, WIDTH)
        self.standardise = nn.BatchNorm1d(WIDTH, affine=False)
        self.register_buffer("correlation", torch.zeros(WIDTH, WIDTH))

    def forward(self, views: Tensor) -> Tensor:
        """Return the standardised projections (B, WIDTH) in float32."""
        projected = self.projector(self.backbone(views))
        with full_precision(views):
            return cast(Tensor, self.standardise(projected.float()))

    def correlate(self, first: Tensor, second: Tensor) -> Tensor:
        """Return C, (WIDTH, WIDTH): that of the minibatch, in training; in ``eval`` mode the running mean."""
        if not self.training:
            return self.correlation
        of_minibatch = cross_correlation(first, second)
        with torch.no_grad():
            self.correlation.lerp_(of_minibatch, MEMORY)
        return of_minibatch


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return C of standardised projections, (B, D), (B, D) -> (D, D)."""
    return first.T @ second / len(first)


def barlow_losses(first: Tensor, second: Tensor, correlation: Tensor, redundancy: float = LAMBDA) -> Tensor:
    """Return l (B,) of standardised projections (B, D) and their cross-correlation (D, D), see BarlowTwins."""
    target = torch.eye(len(correlation), device=correlation.device)
    weighted = (target + redundancy * (1 - target)) * (target - correlation)
    return weighted.trace() - ((first @ weighted) * second).sum(dim=1)


def barlow_loss(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """Return L of the standardised projections (B, D) of a minibatch in float32 (DALBT, Eq. 1), see BarlowTwins."""
    with full_precision(first):
        first, second = first.float(), second.float()
        return barlow_losses(first, second, cross_correlation(first, second), redundancy).mean()
