"""The list of pretext tasks. It loads no torch: the code of a task is imported when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from model.errors import UnknownName

if TYPE_CHECKING:
    from model.pretext.base import PretextTask


@dataclass(frozen=True)
class PretextInfo:
    """What is known of a pretext task without its code.

    name: in the configuration. question: what the network has to do. source: paper of the task, and of its use for
    active learning. implementation: ``module:Class``. training, scoring: processor time of these as a multiple of
    rotation's. smallest_side: pixels that an image needs at least. on_encoder: whether it can be learned by a head on a
    frozen encoder instead of by a network of its own.
    """

    name: str
    question: str
    source: str
    implementation: str
    training: float
    scoring: float
    smallest_side: int = 1
    on_encoder: bool = False

    def load(self) -> "PretextTask":
        """Import the code of the task and return it."""
        module, _, name = self.implementation.partition(":")
        return cast("Callable[[], PretextTask]", getattr(import_module(module), name))()


# The times were measured without a GPU: network ``compact``, one thread, 1,024 images of 32 pixels, as many epochs for
# each task. Rotation: 15.6 s for two epochs and 2.2 s for scoring.
PRETEXT_TASKS: dict[str, PretextInfo] = {
    info.name: info
    for info in (
        PretextInfo(
            name="rotation",
            question="which of four ways up is it?",
            source="Gidaris et al. 2018; PT4AL",
            implementation="model.pretext.rotation:Rotation",
            training=1.0,
            scoring=1.0,
            on_encoder=True,
        ),
        PretextInfo(
            name="colorization",
            question="the colours of a grey picture; without an encoder refused where hardly any image has colour",
            source="Zhang et al. 2016; PT4AL",
            implementation="model.pretext.colorization:Colorization",
            training=0.4,
            scoring=0.5,
            on_encoder=True,
        ),
        PretextInfo(
            name="jigsaw",
            question="the order of nine shuffled tiles; from 12 pixels on",
            source="Noroozi and Favaro 2016; PT4AL",
            implementation="model.pretext.jigsaw:Jigsaw",
            training=0.7,
            scoring=0.7,
            smallest_side=12,  # with fewer, a tile has 3 pixels a side and shows nothing
        ),
        PretextInfo(
            name="simsiam",
            question="predict one distorted view from another",
            source="Chen and He 2021; PT4AL",
            implementation="model.pretext.simsiam:SimSiam",
            training=0.5,
            scoring=1.1,
        ),
        PretextInfo(
            name="simclr",
            question="tell an image's views from other images'; the loss is the mean over four variants",
            source="Chen et al. 2020; Initial Pools",
            implementation="model.pretext.simclr:SimClr",
            training=0.5,
            scoring=1.4,
        ),
        PretextInfo(
            name="barlow_twins",
            question="two views agree, and no two features say the same",
            source="Zbontar et al. 2021",
            implementation="model.pretext.barlow_twins:BarlowTwins",
            training=0.5,
            scoring=1.2,
        ),
        PretextInfo(
            name="inpainting",
            question="paint what a square hides",
            source="Pathak et al. 2016; Initial Pools",
            implementation="model.pretext.inpainting:Inpainting",
            training=0.4,
            scoring=1.9,
        ),
        PretextInfo(
            name="vae",
            question="draw the picture again from 128 numbers",
            source="Kingma and Welling 2014; Initial Pools",
            implementation="model.pretext.vae:Vae",
            training=0.4,
            scoring=0.5,
        ),
    )
}


def pretext_info(name: str) -> PretextInfo:
    """Return the record of a pretext task; raise UnknownName with the choices."""
    if name not in PRETEXT_TASKS:
        raise UnknownName("pretext task", name, PRETEXT_TASKS)
    return PRETEXT_TASKS[name]


def pretext_task(name: str) -> "PretextTask":
    """Return the pretext task of that name; raise UnknownName with the choices."""
    return pretext_info(name).load()
