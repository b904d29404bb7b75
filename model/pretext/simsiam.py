"""SimSiam (Chen and He 2021), one of the tasks that PT4AL compares (section 6.2): its losses order a pool badly."""

from itertools import permutations
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.device import full_precision
from model.networks.backbones import Backbone
from model.networks.heads import projector
from model.pretext.base import PretextTask
from model.pretext.views import VIEWS, distort

WIDTH, BOTTLENECK = 512, 128  # of projections and predictor: a quarter of the paper's, as our networks are narrower


class SimSiam(PretextTask):
    """Predict one view's projection from another's, without negatives.

    The views of a minibatch pass the network together, so that batch normalisation works even for one image.
    """

    name = "simsiam"
    needs_generator = True

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a projector of three layers, normalised at its end, and a predictor of two."""
        return _SimSiamNetwork(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return one plus the symmetric negative cosine of Eq. 2, in [0, 2]; in ``eval`` mode over all pairs of views.

        Adding one keeps the loss positive, with the same order and gradients. Gradients stop at the target (Eq. 3).
        """
        count = 2 if net.training else VIEWS
        views = torch.cat([distort(images, generator) for _ in range(count)])
        projected, predicted = cast(tuple[Tensor, Tensor], net(views))
        with full_precision(images):
            targets = projected.detach().float().view(count, len(images), -1)
            pairs = permutations(zip(predicted.float().view_as(targets), targets, strict=True), 2)
            cosines = [functional.cosine_similarity(view[0], other[1]) for view, other in pairs]
        return 1 - torch.stack(cosines).mean(dim=0)


class _SimSiamNetwork(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = nn.Sequential(
            projector(backbone.dim, WIDTH, WIDTH, WIDTH), nn.BatchNorm1d(WIDTH, affine=False)
        )
        self.predictor = projector(WIDTH, BOTTLENECK, WIDTH)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return projections z and predictions p, (B, WIDTH) each."""
        projected = self.projector(self.backbone(views))
        return projected, self.predictor(projected)
