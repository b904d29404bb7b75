"""The list of learners. It loads no torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from model.querying.outputs import DERIVED

if TYPE_CHECKING:
    from model.learners.base import LearnerCode

AUTO, LINEAR, FINETUNE, OWN = "auto", "linear", "finetune", "own"
DECODER, DETECTOR = "decoder", "detector"


@dataclass(frozen=True)
class LearnerInfo:
    """What is known of a learner without its code.

    name: in the configuration. learns: what is fitted. module: that fits it, see ``LearnerCode``. encoder: whether it
    reads what an encoder makes of the images. provides: what its models give besides the problem's base outputs; None
    for all that the problem gives.
    """

    name: str
    learns: str
    module: str
    encoder: bool = False
    provides: frozenset[str] | None = None

    def load(self) -> "LearnerCode":
        """Import the module, which loads PyTorch."""
        return cast("LearnerCode", import_module(self.module))


LEARNERS: dict[str, LearnerInfo] = {
    info.name: info
    for info in (
        LearnerInfo(
            name=LINEAR,
            learns="a linear head on the frozen features of the encoder",
            module="model.learners.linear",
            encoder=True,
            provides=frozenset({"embeddings", "labels", "pretext_embeddings", *DERIVED}),
        ),
        LearnerInfo(
            name=DETECTOR,
            learns="a detector on the frozen feature maps of the encoder",
            module="model.learners.detector",
            encoder=True,
            provides=frozenset({"embeddings", "pretext_embeddings", *DERIVED}),
        ),
        LearnerInfo(
            name=FINETUNE,
            learns="the last block of the encoder, beside a linear head on its frozen features",
            module="model.learners.finetune",
            encoder=True,
            provides=frozenset({"embeddings", "labels", "pretext_embeddings", *DERIVED}),
        ),
        LearnerInfo(
            name=OWN,
            learns="all weights of a small network of our own",
            module="model.learners.own_network",
        ),
        LearnerInfo(
            name=DECODER,
            learns="a light decoder of the encoder's feature maps, for masks",
            module="model.learners.decoder",
            encoder=True,
            provides=frozenset({"embeddings", "places", "pretext_embeddings", *DERIVED}),
        ),
    )
}

# What models that read an encoder give besides the base outputs of their problems.
OF_ENCODER = frozenset[str]().union(*(info.provides or () for info in LEARNERS.values() if info.encoder))
MOST_ACTIVATED = 50_000  # images of a pool up to which ``auto`` may choose a learner that reads activations


def reads_activations(learner: str, images: int) -> bool:
    """Tell whether a learner, which may be ``auto``, reads activations in a pool of so many images."""
    return learner == FINETUNE or (learner == AUTO and images <= MOST_ACTIVATED)


LEARNER_NAMES = (AUTO, *LEARNERS)
