"""The contract of a pretext task: a loss per image that needs no label."""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from model.data.bank import ImageBank
from model.networks.backbones import Backbone


class PretextTask(ABC):
    """A self-supervised task whose loss per image orders the pool.

    Modules that ``build`` returns are the task's own; the trainer calls ``loss``, extraction calls it on the trained
    module in ``eval`` mode, without gradients and always with the same minibatches and generators.
    """

    name: str
    needs_generator: bool = False  # draws random numbers: the generator differs by minibatch, not by run
    backbone_prefix: str | None = "backbone."  # where the backbone lies in the module's state; None: it has no use

    @abstractmethod
    def build(self, backbone: Backbone) -> nn.Module:
        """Put heads, projectors or decoders around the backbone; called with PyTorch's global generator seeded."""

    @abstractmethod
    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each image, differentiable: (B, 3, H, W) in [0, 1] -> (B,) float32."""

    def embed(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return what the trained backbone says of each image, (B, 3, H, W) -> (B, D)."""
        return cast(Tensor, cast(nn.Module, net.backbone)(images))

    def accuracy(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return the share that the network has right of each image, (B,); None where right has no meaning."""
        return None

    def check(self, bank: ImageBank) -> None:  # noqa: B027 - most tasks take any image
        """Raise BadInput where the task makes no sense on these images (colorization of grey ones, say)."""
