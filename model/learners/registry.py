"""The list of learners. It loads no torch."""

from dataclasses import dataclass

from model.errors import UnknownName
from model.querying.outputs import DERIVED

AUTO, LINEAR, OWN = "auto", "linear", "own"


@dataclass(frozen=True)
class LearnerInfo:
    """What is known of a learner without its code.

    name: in the configuration. learns: what is fitted. seconds: of a fit of 300 labels on two cores, about.
    needs_encoder: whether it reads features. provides: what its models give besides the problem's base outputs;
    None for all that the problem gives.
    """

    name: str
    learns: str
    seconds: float
    needs_encoder: bool
    provides: frozenset[str] | None = None


LEARNERS: dict[str, LearnerInfo] = {
    info.name: info
    for info in (
        LearnerInfo(
            name=LINEAR,
            learns="a linear head on the frozen features of the encoder",
            seconds=0.5,
            needs_encoder=True,
            provides=frozenset({"embeddings", "labels", "pretext_embeddings", *DERIVED}),
        ),
        LearnerInfo(
            name=OWN,
            learns="all weights of a small network of our own",
            seconds=10.0,
            needs_encoder=False,
        ),
    )
}

LEARNER_NAMES = (AUTO, *LEARNERS)


def learner_info(name: str) -> LearnerInfo:
    """Return what is known of a learner; raise UnknownName with the choices."""
    if name not in LEARNERS:
        raise UnknownName("learner", name, LEARNERS)
    return LEARNERS[name]
