"""Variational autoencoder (Kingma and Welling 2014), whose errors choose round 0 in the paper on initial pools."""

from typing import cast

import torch
from torch import Tensor, nn

from model.device import full_precision
from model.networks.backbones import Backbone
from model.networks.heads import Decoder
from model.pretext.base import PretextTask

LATENT = 128
START, START_WIDTH = 4, 128  # side and channels of the map that the decoder begins with
WIDTHS = (64, 32, 16)  # of the decoder
KL_WEIGHT = 2.5e-4  # against the mean error of a pixel: that of the code which the paper on initial pools used
LARGEST_LOG_VARIANCE = 10.0  # larger ones overflow in the exponential


class Vae(PretextTask):
    """Reconstruct an image from a few numbers.

    Training minimises reconstruction error and divergence. The extraction (``eval`` mode) returns the reconstruction
    error alone, as the paper on initial pools (section 5.2) does: it says how hard an image is, while the divergence
    says how far its code is from those of other images. The code is then the mean, not a sample, so that no draw
    decides a loss.
    """

    name = "vae"
    needs_generator = True

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with its two heads and a decoder."""
        return _Autoencoder(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared error of colours in [-1, 1], in training plus the weighted divergence (Eq. 10)."""
        autoencoder = cast(_Autoencoder, net)
        mean, log_variance = autoencoder.encode(images)
        if autoencoder.training:
            noise = torch.randn(len(images), LATENT, generator=generator).to(images.device)
            code = mean + (log_variance / 2).exp() * noise
        else:
            code = mean
        drawn = autoencoder.decode(code, images.shape[-1])
        with full_precision(images):
            error = (drawn.float() - (2 * images - 1)).square().mean(dim=(1, 2, 3))
        return error + KL_WEIGHT * divergence(mean, log_variance) if autoencoder.training else error


class _Autoencoder(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.Linear(backbone.dim, 2 * LATENT)
        self.start = nn.Linear(LATENT, START_WIDTH * START**2)
        self.decoder = Decoder(START_WIDTH, WIDTHS, 3)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance, (B, LATENT) each, in float32."""
        mean, log_variance = self.heads(self.backbone(images)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)

    def decode(self, code: Tensor, side: int) -> Tensor:
        """Return the picture, (B, LATENT) -> (B, 3, side, side) in [-1, 1]."""
        features = self.start(code).view(-1, START_WIDTH, START, START)
        drawn = self.decoder(features.contiguous(memory_format=torch.channels_last), side)
        return cast(Tensor, drawn.tanh())


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from the standard normal, (B, D) -> (B,) (appendix B)."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
