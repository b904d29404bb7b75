"""Rotation prediction (Gidaris et al. 2018), PT4AL's task for classification (section 4.2, Eq. 1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import Backbone, Network
from model.pretext.base import PretextTask

ORIENTATIONS = 4


class Rotation(PretextTask):
    """Predict by how many quarter turns an image was rotated."""

    name = "rotation"

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a head of four classes."""
        return Network(backbone, ORIENTATIONS)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy averaged over the four orientations, in one forward pass (Eq. 1)."""
        logits, truth = _turned(net, images)
        return functional.cross_entropy(logits.float(), truth, reduction="none").view(-1, ORIENTATIONS).mean(dim=1)

    def accuracy(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the share of the four orientations that are predicted right, (B,)."""
        logits, truth = _turned(net, images)
        return (logits.argmax(dim=1) == truth).float().view(-1, ORIENTATIONS).mean(dim=1)


def _turned(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (B * 4, 4) and quarter turns (B * 4,); the four of an image follow each other."""
    turns = [torch.rot90(images, turn, dims=(2, 3)) for turn in range(ORIENTATIONS)]
    stacked = torch.stack(turns, dim=1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    truth = torch.arange(ORIENTATIONS, device=images.device).repeat(len(images))
    return net(stacked), truth
