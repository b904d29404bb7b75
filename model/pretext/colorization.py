"""Colorization (Zhang, Isola and Efros 2016), PT4AL's task for segmentation (section 6.2)."""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.bank import ImageBank
from model.device import full_precision
from model.errors import BadInput
from model.networks.backbones import Backbone
from model.networks.heads import Decoder, feature_map
from model.pretext.base import PretextTask
from model.pretext.colour_space import ab_bins, rgb_to_lab

NEIGHBOURS, SIGMA = 5, 5.0  # bins that share a pixel, and how softly, in units of ab (section 2.1)
UNIFORM = 0.5  # weight of the uniform distribution in the rebalancing (Eq. 4: lambda)
SHRINK, LARGEST = 4, 16  # colours are predicted at a quarter of the side, and at 16 pixels at most
WIDTHS = (128, 64)  # of the decoder

SAMPLE = 256  # images of the bank that ``check`` reads
COLOUR = 4.0  # mean distance between the channels' largest and smallest, of 255, from which an image counts as coloured
FEWEST = 0.1  # share of coloured images below which the task is refused


class Colorization(PretextTask):
    """Predict the colour of each pixel from the lightness of the image.

    The lightness is L of Lab; the target is a and b in squares of 10 units. Rare colours weigh more: the weights come
    from the mean over the colours of all minibatches so far, which is part of the network's state.
    """

    name = "colorization"

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a decoder to the bins of the ab plane."""
        return _Colorizer(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the rebalanced cross-entropy against the softly assigned bins (Eq. 2), averaged over the pixels."""
        colorizer = cast(_Colorizer, net)
        with full_precision(images):
            lab = rgb_to_lab(images)
            side = colour_side(images.shape[-1])
            target = soft_bins(functional.adaptive_avg_pool2d(lab[:, 1:], side), colorizer.bins)
        if colorizer.training:
            colorizer.count(target)
        logits = colorizer(lab[:, :1] / 100, side)
        with full_precision(images):
            entropy: Tensor = -(target * logits.float().log_softmax(dim=1)).sum(dim=1)  # (B, side, side)
            return (colorizer.weights()[target.argmax(dim=1)] * entropy).mean(dim=(1, 2))

    def embed(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the features of the lightness: the backbone was trained without colours."""
        lightness = rgb_to_lab(images)[:, :1] / 100
        return cast(Tensor, cast(_Colorizer, net).backbone(as_grey(lightness)))

    def check(self, bank: ImageBank) -> None:
        """Raise BadInput if fewer than a tenth of (a sample of) the images have any colour."""
        coloured, looked_at = count_coloured(bank)
        if coloured < FEWEST * looked_at:
            raise BadInput(
                f"colorization learns from colours, and only {coloured} of {looked_at} images looked at have any: "
                "choose another pretext task, for example rotation"
            )


def count_coloured(bank: ImageBank) -> tuple[int, int]:
    """Return how many of (a sample of) the images have any colour, and how many were looked at."""
    if len(bank) == 0:
        return 0, 0
    positions = np.unique(np.linspace(0, len(bank) - 1, SAMPLE).astype(np.int64))
    pixels = bank.gather(positions)
    spread = (pixels.max(axis=3) - pixels.min(axis=3)).mean(axis=(1, 2))
    return int((spread >= COLOUR).sum()), len(positions)


class _Colorizer(nn.Module):
    bins: Tensor
    frequency: Tensor
    minibatches: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        bins = torch.from_numpy(ab_bins())
        self.decoder = Decoder(backbone.dim, WIDTHS, len(bins), kernel=1)
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("frequency", torch.full((len(bins),), 1 / len(bins)))
        self.register_buffer("minibatches", torch.zeros((), dtype=torch.int64))

    def forward(self, lightness: Tensor, side: int) -> Tensor:
        """Return the logits of the bins, (B, 1, H, W) in [0, 1] -> (B, Q, side, side)."""
        return cast(Tensor, self.decoder(feature_map(self.backbone, as_grey(lightness)), side))

    @torch.no_grad()
    def count(self, target: Tensor) -> None:
        """Keep the mean share of each bin over all minibatches."""
        self.minibatches.add_(1)
        self.frequency.lerp_(target.mean(dim=(0, 2, 3)), 1 / self.minibatches.float())

    def weights(self) -> Tensor:
        """Return the weight of each bin, (Q,)."""
        return rebalanced(self.frequency)


def rebalanced(frequency: Tensor) -> Tensor:
    """Return the weight of each bin, (Q,) with mean 1 over pixels of these shares of the bins (Eq. 4)."""
    mixed = (1 - UNIFORM) * frequency + UNIFORM / len(frequency)
    return 1 / mixed / (frequency / mixed).sum()


def colour_side(side: int) -> int:
    """Return the side at which the colours of a picture of ``side`` pixels are predicted."""
    return min(-(-side // SHRINK), LARGEST)


def soft_bins(ab: Tensor, bins: Tensor) -> Tensor:
    """Share each pixel between its nearest bins by a Gaussian, (B, 2, H, W) and (Q, 2) -> (B, Q, H, W) adding to 1."""
    n, _, height, width = ab.shape
    pixels = ab.permute(0, 2, 3, 1).reshape(-1, 2)
    distance = (pixels[:, :1] - bins[:, 0]).square() + (pixels[:, 1:] - bins[:, 1]).square()
    nearest, places = distance.topk(NEIGHBOURS, dim=1, largest=False)
    shares = (-nearest / (2 * SIGMA**2)).softmax(dim=1)
    encoded = torch.zeros_like(distance).scatter_(1, places, shares)
    return encoded.view(n, height, width, -1).permute(0, 3, 1, 2)


def as_grey(lightness: Tensor) -> Tensor:
    """Return a picture of this lightness, (B, 1, H, W) in [0, 1] -> (B, 3, H, W), channels last."""
    return lightness.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
