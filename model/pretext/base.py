"""The contract of a pretext task: a loss for each image that needs no label."""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from model.data.bank import ImageBank
from model.networks.backbones import Backbone


class PretextTask(ABC):
    """A self-supervised task whose losses order the pool.

    The trainer calls ``loss`` on the module that ``build`` returns. The extraction calls it on the trained module in
    ``eval`` mode, without gradients and always with the same minibatches and generators.
    """

    name: str
    needs_generator: bool = False  # whether ``loss`` draws random numbers
    backbone_prefix: str | None = (
        "backbone."  # of the backbone in the state of the module; None: it is of no use to a main model
    )

    @abstractmethod
    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with heads, projectors or decoders; the global generator of PyTorch is seeded."""

    @abstractmethod
    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each image, differentiable: (B, 3, H, W) in [0, 1] -> (B,) float32."""

    def embed(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the features that the trained backbone gives, (B, 3, H, W) -> (B, D)."""
        return cast(Tensor, cast(nn.Module, net.backbone)(images))

    def accuracy(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return the share of right answers for each image, (B,); None for a task without right answers."""
        return None

    def check(self, bank: ImageBank) -> None:  # noqa: B027 - most tasks take any image
        """Raise BadInput if the task makes no sense on these images, such as colorization of grey images."""
