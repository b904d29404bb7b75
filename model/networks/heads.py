"""What pretext tasks put behind a backbone: projectors and decoders."""

from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import Backbone


def projector(*widths: int) -> nn.Sequential:
    """Build a perceptron of these widths: batch normalisation and ReLU between its layers, none after the last."""
    layers: list[nn.Module] = []
    for width_in, width in pairwise(widths[:-1]):
        layers += [nn.Linear(width_in, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def feature_map(backbone: Backbone, images: Tensor) -> Tensor:
    """Return what goes into the backbone's global pooling, (B, 3, H, W) -> (B, dim, h, w).

    Tasks that answer for each pixel need to know where things are, which pooling forgets.
    """
    pooling = [part for part in backbone.modules() if isinstance(part, nn.AdaptiveAvgPool2d)][-1]
    caught: list[Tensor] = []
    hook = pooling.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        backbone(images)
    finally:
        hook.remove()
    return caught[0]


class Decoder(nn.Module):
    """From a small feature map to a picture of any size, doubling (about) the side with every stage.

    widths: channels of the stages. The sides follow from the picture that is asked for, so that one decoder serves
    every backbone and image size.
    """

    def __init__(self, width_in: int, widths: tuple[int, ...], outputs: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stage(before, after) for before, after in pairwise((width_in, *widths)))
        self.last = nn.Conv2d(widths[-1], outputs, kernel, padding=kernel // 2)

    def forward(self, features: Tensor, side: int) -> Tensor:
        """Return the picture, (B, width_in, h, w) -> (B, outputs, side, side)."""
        for left, stage in zip(range(len(self.stages) - 1, -1, -1), self.stages, strict=True):
            target = -(-side // 2**left)  # rounded up: the last stage has the side itself
            features = stage(functional.interpolate(features, size=(target, target)))
        return cast(Tensor, self.last(features))


def _stage(width_in: int, width: int) -> nn.Sequential:
    convolution = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
