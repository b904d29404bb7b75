"""The contract of a labeling: one control tag of a label configuration, between Label Studio's words and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from xml.etree.ElementTree import Element

from model.problems.base import Prediction, Target

Region = dict[str, Any]  # one entry of an annotation's or a prediction's "result"

# Why an annotation cannot be learned. ``empty``: it has no answer. ``other``: it only answers other control tags.
# ``several``: it has several answers, where one can be learned. ``unknown``: its class is not in the configuration.
# ``huge``: a region claims an image larger than any that is read. ``unusable``: its regions have another form than
# Label Studio's own.
Refusal = Literal["empty", "other", "several", "unknown", "huge", "unusable"]


@dataclass(frozen=True)
class Item:
    """What a prediction is about; sizes are those of the original image in pixels, None where they are not known."""

    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Reading:
    """What a person has chosen of how answers are read.

    problem: what is learned, where a control tag allows several. alone: one control tag is named, so that none is read
    beside it. background: whether pixels that nobody painted are the background; else they are unknown.
    """

    problem: str | None = None
    alone: bool = False
    background: bool = True


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

    def refusal(self, result: Sequence[Mapping[str, Any]]) -> Refusal:
        """Return why an annotation's regions, of which ``target`` makes none, cannot be learned."""
        ...

    def result(self, prediction: Prediction, item: Item) -> list[Region]:
        """Return a prediction as the regions that Label Studio shows; none where its classes have gone."""
        ...


@dataclass(frozen=True)
class Control:
    """A control tag with the image that it is about.

    tag: the element. name, object_name: of control and image, as regions name them. data_key: see ``Labeling``.
    conditional: Label Studio shows it for some images only (``visibleWhen`` and the like, of the tag or around it).
    others: the other control tags about the same image, each without others.
    """

    tag: Element
    name: str
    object_name: str
    data_key: str
    conditional: bool = False
    others: "tuple[Control, ...]" = ()

    def __str__(self) -> str:
        """Return how messages call the control tag."""
        return f"<{self.tag.tag}> '{self.name}'"

    def attribute(self, name: str) -> str:
        """Return an attribute of the tag; empty where it is not set."""
        return attribute(self.tag, name)

    def is_set(self, name: str) -> bool:
        """Tell whether an attribute of the tag is ``"true"``."""
        return self.attribute(name).lower() == "true"

    @property
    def kind(self) -> str:
        """The type of the tag's regions, and the key of their value: ``{"type": "rating", "value": {"rating": 3}}``."""
        return str(self.tag.tag).lower()

    def answers(self, result: Sequence[Any]) -> list[Any] | None:
        """Return what the tag's regions hold under its kind; None where a region has another form.

        result: any JSON values, since Label Studio's API accepts regions of any form; so may the answers be.
        """
        answers = []
        for region in result:
            if not isinstance(region, Mapping):
                return None
            if region.get("from_name") != self.name:
                continue
            value = region.get("value")
            if region.get("type") != self.kind or not isinstance(value, Mapping) or self.kind not in value:
                return None
            answers.append(value[self.kind])
        return answers

    def refusal(self, result: Sequence[Any]) -> Refusal:
        """Return why regions cannot be learned, as far as that does not depend on what the answers are."""
        answers = self.answers(result)
        if answers is None:
            return "unusable"
        if not answers:
            return "other" if result else "empty"
        return "several" if len(answers) > 1 else "unknown"

    def region(self, value: Mapping[str, Any]) -> Region:
        """Return a region of the tag with that value."""
        return {"from_name": self.name, "to_name": self.object_name, "type": self.kind, "value": dict(value)}


def attribute(tag: Element, name: str) -> str:
    """Return an attribute, empty where it is not set; Label Studio's interface ignores the case of its name."""
    lowered = name.lower()
    return next((value for key, value in tag.attrib.items() if key.lower() == lowered), "")


def tags(root: Element, name: str) -> list[Element]:
    """Return the tags of that name (lower case) in and below ``root``; Label Studio ignores the case of tag names."""
    return [tag for tag in root.iter() if isinstance(tag.tag, str) and tag.tag.lower() == name]
