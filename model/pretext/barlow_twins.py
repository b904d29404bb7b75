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
MEMORY = 0.1  # weight of the newest minibatch in what the network remembers, as in batch normalisation


class BarlowTwins(PretextTask):
    """Make the cross-correlation of two views' projections the identity.

    The loss is one of a minibatch (Eq. 1, 2): with a, b (B, D) the standardised projections of the views, T the
    identity, C = (1/B) sum_n a_n b_n^T and W = 1 on the diagonal and lambda off it,

        L = sum_ij W_ij (T_ij - C_ij)^2 = (1/B) sum_n l_n,    l_n = sum_ij W_ij (T_ij - C_ij) (T_ij - a_ni b_nj).

    l_n is the image's loss: the mean of l over a minibatch is exactly L, with the same gradient, and l_n - L is half
    of how fast L would rise if image n weighed more. It may be negative. In ``eval`` mode C and the moments of the
    standardisation are the running ones of the training, so that the loss of an image depends on no other; it is the
    mean over all pairs of four views. All is divided by D, or the learning rate would have to know it.
    """

    name = "barlow_twins"
    needs_generator = True

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a projector of three layers and the standardisation after it."""
        return _Twins(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return l_n / D of each image; raise BadInput where one is to be trained on alone: it correlates with all."""
        twins = cast(_Twins, net)
        if twins.training and len(images) < 2:
            raise BadInput("barlow_twins correlates over a minibatch: it trains on at least 2 images at once, found 1")
        solarized = [0.0, SOLARIZED] * (1 if twins.training else VIEWS // 2)
        views = [twins(distort(images, generator, solarize=share)) for share in solarized]
        pairs = [(views[0], views[1])] if twins.training else list(permutations(views, 2))
        with full_precision(images):
            losses = [attribute(one, other, twins.correlate(one, other)) for one, other in pairs]
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
        """Return C: that of the minibatch, which is remembered, while training; afterwards what is remembered."""
        if not self.training:
            return self.correlation
        batch = first.T @ second / len(first)
        with torch.no_grad():
            self.correlation.lerp_(batch, MEMORY)
        return batch


def attribute(first: Tensor, second: Tensor, correlation: Tensor) -> Tensor:
    """Return l (B,) of standardised projections (B, D) and their cross-correlation (D, D), see BarlowTwins."""
    target = torch.eye(len(correlation), device=correlation.device)
    weighted = (target + LAMBDA * (1 - target)) * (target - correlation)
    return weighted.trace() - ((first @ weighted) * second).sum(dim=1)
