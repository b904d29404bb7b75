"""Inpainting (context encoders, Pathak et al. 2016), which the paper on initial pools proposes (section 3.2.1)."""

from typing import cast

import torch
from torch import Tensor, nn

from model.device import full_precision
from model.networks.backbones import Backbone
from model.networks.heads import Decoder, feature_map
from model.pretext.base import PretextTask

WIDTHS = (64, 32, 16)  # of the decoder
HOLE = 0.5  # side of the hole, as a share of the picture's: a quarter of the area (section 4.1)
FILL = 0.5  # value of the pixels of a hole, which a backbone centres to zero


class Inpainting(PretextTask):
    """Predict the pixels that a square hole hides from those around it.

    It has the reconstruction loss only: the adversarial loss of the paper makes images sharper, not features better
    (its section 5.2 leaves it out for features), and does not measure how hard an image is.
    """

    name = "inpainting"
    needs_generator = True

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a decoder to the whole image, of which only the pixels of the hole count."""
        return _Painter(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the squared error inside the hole (Eq. 1), of colours in [-1, 1], averaged over its pixels.

        Training cuts a hole anywhere. ``eval`` mode cuts each of the four quarters and takes the mean, so that a loss
        is of the whole image and no draw decides it.
        """
        holes = one_hole(images, generator) if net.training else four_quarters(images)
        truth = images.repeat_interleave(len(holes) // len(images), dim=0)
        hidden = torch.where(holes, FILL, truth).contiguous(memory_format=torch.channels_last)
        painted = cast(Tensor, net(hidden))
        with full_precision(images):
            error = (painted.float() - (2 * truth - 1)).square().mean(dim=1, keepdim=True)
            per_hole = (error * holes).sum(dim=(1, 2, 3)) / holes.sum(dim=(1, 2, 3))
            return per_hole.view(len(images), -1).mean(dim=1)


class _Painter(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = Decoder(backbone.dim, WIDTHS, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the picture without the hole, (B, 3, H, W) -> (B, 3, H, W) in [-1, 1]."""
        painted = self.decoder(feature_map(self.backbone, images), images.shape[-1])
        return cast(Tensor, painted.tanh())


def one_hole(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a hole for each image, (B, 1, H, W) bool."""
    side = images.shape[-1]
    places = side - _hole_side(side) + 1
    corner = torch.randint(places, (len(images), 2), generator=generator).to(images.device)
    return _square(corner, side)


def four_quarters(images: Tensor) -> Tensor:
    """Return the four quarters as holes; those of an image follow each other, (4 B, 1, H, W) bool."""
    side = images.shape[-1]
    edge = torch.tensor([0, side - _hole_side(side)], device=images.device)
    return _square(torch.cartesian_prod(edge, edge).repeat(len(images), 1), side)


def _hole_side(side: int) -> int:
    return side - int(side * HOLE)  # rounded up, so that four of them cover the image


def _square(corner: Tensor, side: int) -> Tensor:
    """Mark a square from its top left corner on, (B, 2) of row and column -> (B, 1, side, side) bool."""
    offset = torch.arange(side, device=corner.device) - corner.unsqueeze(2)  # (B, 2, side)
    inside = (offset >= 0) & (offset < _hole_side(side))
    return inside[:, 0, None, :, None] & inside[:, 1, None, None, :]
