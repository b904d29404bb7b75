"""The list of learners. It loads no torch."""

from dataclasses import dataclass

from model.querying.outputs import DERIVED

AUTO, LINEAR, OWN = "auto", "linear", "own"


@dataclass(frozen=True)
class LearnerInfo:
    """What is known of a learner without its code.

    name: in the configuration. learns: what is fitted. provides: what its models give besides the problem's base
    outputs; None for all that the problem gives.
    """

    name: str
    learns: str
    provides: frozenset[str] | None = None


LEARNERS: dict[str, LearnerInfo] = {
    info.name: info
    for info in (
        LearnerInfo(
            name=LINEAR,
            learns="a linear head on the frozen features of the encoder",
            provides=frozenset({"embeddings", "labels", "pretext_embeddings", *DERIVED}),
        ),
        LearnerInfo(
            name=OWN,
            learns="all weights of a small network of our own",
        ),
    )
}

LEARNER_NAMES = (AUTO, *LEARNERS)
