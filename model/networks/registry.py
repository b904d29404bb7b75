"""The list of backbones, and of where the weights of a main model start. It loads no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from model.networks.backbones import Backbone

AUTO = "auto"  # see ``backbones.resolve``


@dataclass(frozen=True)
class NetworkInfo:
    """What is known of a backbone without its code.

    name: in the configuration. source: paper. parameters: millions. implementation: ``module:function``, where the
    function takes the side of the images in pixels.
    """

    name: str
    source: str
    parameters: float
    implementation: str

    def load(self) -> "Callable[[int], Backbone]":
        """Import the code of the network and return its builder."""
        module, _, name = self.implementation.partition(":")
        return cast("Callable[[int], Backbone]", getattr(import_module(module), name))


@dataclass(frozen=True)
class InitInfo:
    """Where the weights of a main model start.

    name: in the configuration. weights: what they are. networks: those that have such weights; empty for all.
    """

    name: str
    weights: str
    networks: tuple[str, ...] = ()

    def fits(self, network: str) -> bool:
        """Return whether a network (or ``auto``) has such weights."""
        return not self.networks or network in (AUTO, *self.networks)


NETWORKS: dict[str, NetworkInfo] = {
    info.name: info
    for info in (
        NetworkInfo(
            name="compact",
            source="ResNet-8, after cifar10-fast (Page 2018)",
            parameters=0.7,
            implementation="model.networks.backbones:compact",
        ),
        NetworkInfo(
            name="resnet18",
            source="He et al. 2016",
            parameters=11.2,
            implementation="model.networks.backbones:small_resnet18",
        ),
    )
}

NETWORK_NAMES = (AUTO, *NETWORKS)

INITS: dict[str, InitInfo] = {
    info.name: info
    for info in (
        InitInfo(name="pretext", weights="those of the pretext network"),
        InitInfo(name="scratch", weights="drawn at random"),
        InitInfo(name="previous", weights="those of the last round's model, after the first round"),
        InitInfo(name="pretrained", weights="torchvision's of ImageNet", networks=("resnet18",)),
    )
}
