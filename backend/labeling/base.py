"""The contract of a labeling: one control tag of a label configuration, between Label Studio's words and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from xml.etree.ElementTree import Element

from model.problems.base import Prediction, Target

Region = dict[str, Any]  # one entry of an annotation's or a prediction's "result"


@dataclass(frozen=True)
class Item:
    """What a prediction is about; sizes are those of the original image in pixels, None where they are not known."""

    width: int | None = None
    height: int | None = None


class Labeling(Protocol):
    """How a project's answers are read and its predictions written.

    problem: a name of ``model.problems``. classes: as targets hold them, in the order of the configuration.
    control: the name of the control tag that is learned. data_key: where the image stands in a task's data: a key, or
    a text with ``$key`` in it. notice: what a person should know about the parts that are left aside.
    """

    problem: str
    classes: tuple[str, ...]
    control: str
    data_key: str
    notice: str | None

    def target(self, result: Sequence[Mapping[str, Any]]) -> Target | None:
        """Return what an annotation's regions say; None where they say nothing that can be learned."""
        ...

    def result(self, prediction: Prediction, item: Item) -> list[Region]:
        """Return a prediction as the regions that Label Studio shows; none where its classes have gone."""
        ...


@dataclass(frozen=True)
class Control:
    """A control tag with the image that it is about.

    tag: the element. name, object_name: of control and image, as regions name them. data_key: see ``Labeling``.
    """

    tag: Element
    name: str
    object_name: str
    data_key: str
