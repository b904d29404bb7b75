"""Backbones by name, and the network that is a backbone with a linear head.

A backbone takes images as float (B, 3, H, W) in [0, 1], channels last, and returns embeddings (B, dim). It centres the
pixels itself, so that no caller has to.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import BadInput, ModelError, UnknownName
from model.networks.registry import AUTO, NETWORK_NAMES, NETWORKS

M = TypeVar("M", bound=nn.Module)

IMAGENET_SIDE = (
    96  # pixels that images have at least for ImageNet's weights: for smaller ones ResNet-18 has another stem
)


class Backbone(nn.Module):
    """A feature extractor with global pooling at its end.

    dim: length of an embedding. levels: name in ``layers`` and channels of the feature map at the end of each stage.
    enlarged: side in pixels to which smaller images are brought first; 0: they are taken as they are.
    """

    enlarged = 0

    def __init__(self, layers: nn.Module, dim: int, levels: dict[str, int]) -> None:
        super().__init__()
        self.layers = layers
        self.dim = dim
        self._levels = levels

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings, (B, 3, H, W) in [0, 1] -> (B, dim)."""
        if self.enlarged > images.shape[-1]:
            images = functional.interpolate(images, size=(self.enlarged, self.enlarged), mode="bilinear")
        return cast(Tensor, self.layers((images - 0.5) * 4.0))  # roughly zero mean and unit deviation

    @property
    def level_widths(self) -> tuple[int, ...]:
        """The number of channels of each stage."""
        return tuple(self._levels.values())

    def with_levels(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the embeddings (B, dim) and the mean over the pixels of each stage's features, (B, width) each."""
        caught: list[Tensor] = []
        hooks = [
            self.layers.get_submodule(name).register_forward_hook(lambda _, __, out: caught.append(out.mean((2, 3))))
            for name in self._levels
        ]
        try:
            return self(images), caught
        finally:
            for hook in hooks:
                hook.remove()


class Network(nn.Module):
    """A backbone with a linear head."""

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, 3, H, W) -> (B, outputs)."""
        return cast(Tensor, self.head(self.backbone(images)))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_conv(width, width), *_conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.block(x))


def _conv(width_in: int, width: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    padding = (kernel - 1) // 2
    convolution = nn.Conv2d(width_in, width, kernel, stride, padding, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


def compact(side: int) -> Backbone:
    """Build a residual network of 0.7 M parameters for CPUs.

    A ResNet-8 after Page's cifar10-fast, with a stem that halves the image (from 64 px on: quarters it): the first
    layers take a CPU the most time, and small labeled sets gain least from them.
    """
    stem = _conv(3, 32, kernel=4, stride=2) if side < 64 else _conv(3, 32, kernel=8, stride=4)
    layers = nn.Sequential(
        *stem,
        *_conv(32, 64),
        nn.MaxPool2d(2),
        *_conv(64, 128),
        _Residual(128),
        nn.MaxPool2d(2),
        *_conv(128, 256),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return Backbone(layers, 256, {"2": 32, "5": 64, "10": 128, "14": 256})


def small_resnet18(side: int) -> Backbone:
    """Build ResNet-18; up to 64 px the CIFAR variant of the paper's code: 3x3 stem of stride 1, no max-pool."""
    from torchvision.models import resnet18

    network = resnet18(num_classes=1)
    if side <= 64:
        network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return Backbone(network, 512, {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512})


def network_of(recipe: str, name: str) -> str:
    """Return the network that ``auto`` stands for in a recipe: ResNet-18 in the paper's, else still ``auto``."""
    return "resnet18" if (recipe, name) == ("paper", AUTO) else name


def resolve(name: str) -> str:
    """Return the network that ``auto`` stands for, or ``name``; raise UnknownName with the choices.

    It is the same on every device: the recipe ``auto`` was measured with it.
    """
    if name == AUTO:
        return "compact"
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORK_NAMES)
    return name


def build_backbone(name: str, side: int, seed: int, *, enlarged: int = 0) -> Backbone:
    """Build a backbone with weights drawn from ``seed``, on the CPU, channels last.

    side: of the images, in pixels. enlarged: see ``Backbone``; the network is then one for images of that side.
    """
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORKS)
    backbone = seeded(lambda: NETWORKS[name].load()(max(side, enlarged)), seed)
    backbone.enlarged = enlarged
    return backbone.to(memory_format=torch.channels_last)


def seeded(build: Callable[[], M], seed: int) -> M:
    """Return the result of ``build`` with the global generator of PyTorch at ``seed``; restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def load_imagenet(backbone: Backbone) -> None:
    """Load torchvision's ImageNet weights into a ResNet-18 backbone.

    They are downloaded once, into the folder of PyTorch.

    Raises:
        ModelError: the weights cannot be downloaded.
        BadInput: another backbone, or one for small images, whose first layer has another shape.
    """
    from torchvision.models import ResNet18_Weights

    try:
        state: dict[str, Any] = dict(ResNet18_Weights.DEFAULT.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, proxy, or a damaged download
        url = str(ResNet18_Weights.DEFAULT.url)
        raise ModelError(
            f"torchvision's pretrained weights could not be downloaded ({error}): choose another init, or put {url} "
            f"into {Path(torch.hub.get_dir()) / 'checkpoints'}"
        ) from error
    current = backbone.layers.state_dict()
    if any(key not in state or state[key].shape != value.shape for key, value in current.items()):
        raise BadInput(
            f"pretrained weights are those of resnet18 for images of {IMAGENET_SIDE} pixels or more: choose that "
            "network, or leave it at auto"
        )
    backbone.layers.load_state_dict({key: state[key] for key in current})
