"""The one place that knows the label type: label configuration and annotations <-> classes.

Today: one choice an image (`<Choices>` on `<Image>`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from backend.errors import ImageError, ProjectError
from backend.studio.types import AnnotationRecord, Json

AnswerKind = Literal["none", "labeled", "skipped", "tie", "unusable"]

EXAMPLE = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)

# As Label Studio's frontend reads a tag's value: names with dots, [0] and {{ }} behind a dollar sign.
VARIABLE = re.compile(r"\$[\w\[\].{}]+")


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """What of a label configuration we work with: one `<Choices>` and the `<Image>` that it is about."""

    control_name: str
    object_name: str
    data_key: str
    """Where the image stands in a task's data: a key, or a text with `$key` in it."""
    classes: tuple[str, ...]
    """As annotations hold them, in the order of the configuration."""
    notice: str | None = None
    """What a person should know about the parts that are left aside."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the annotations of a task say together."""

    kind: AnswerKind
    label: str | None = None


def read_label_config(config: str) -> LabelSpec:
    """Find the first single choice on an image.

    Raises:
        ProjectError: there is none; the text says what to add.
    """
    root = _parse(config)
    images = {tag.get("name", ""): tag for tag in _tags(root, "image") if tag.get("name")}
    controls = [tag for tag in _tags(root, "choices") if tag.get("name") and tag.get("toName")]
    # One choice teaches more than several at once, so those come last; otherwise the first one counts.
    controls.sort(key=_is_multiple)
    if not images:
        raise ProjectError(f"the labeling interface has no <Image> tag with a name: add one, such as {EXAMPLE}")
    if not controls:
        raise ProjectError(
            f"the labeling interface has no <Choices> tag with name and toName: add one, as in {EXAMPLE}"
        )
    problems: list[str] = []
    for control in controls:
        found = _pair(control, images, problems)
        if found is not None:
            image, classes = found
            return LabelSpec(
                control_name=control.get("name", ""),
                object_name=image.get("name", ""),
                data_key=_data_key(image.get("value", "")),
                classes=classes,
                notice=_notice(control, image, len(controls), len(images)),
            )
    raise ProjectError(f"the labeling interface has no choice that we can learn: {'; '.join(problems)}")


def image_ref(data: Json, data_key: str) -> str:
    """Find the image's address in a task's data.

    Raises:
        ImageError: there is none, or it is not one address.
    """
    if not isinstance(data, Mapping):  # Label Studio's API refuses that with an error, and stores it all the same
        raise ImageError(f"task whose data is not an object but a {type(data).__name__}")
    if "$" in data_key:
        return VARIABLE.sub(lambda match: image_ref(data, match.group()[1:]), data_key)
    value: Json = data.get(data_key)
    if value is None:
        value = _walk(data, data_key)
    value = value.strip() if isinstance(value, str) else value
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (list, tuple)):
        raise ImageError(f"task with a list of {len(value)} images in '{data_key}', of which we would need one")
    if value is None or value == "":
        raise ImageError(f"task without an image: '{data_key}' is empty or missing in its data")
    raise ImageError(f"task whose '{data_key}' is not an address but a {type(value).__name__}")


def aggregate(annotations: Iterable[AnnotationRecord], spec: LabelSpec) -> Answer:
    """Sum up a task's annotations: the majority of those that were not skipped."""
    saved = list(annotations)
    given = [one for one in saved if not one.skipped]
    if not given:
        return Answer("skipped" if saved else "none")
    votes = Counter(label for one in given if (label := _choice(one.result, spec)) is not None)
    if not votes:
        return Answer("unusable")
    (label, most), *others = votes.most_common(2)
    if others and others[0][1] == most:
        return Answer("tie")
    return Answer("labeled", label)


def prediction_result(label: str, spec: LabelSpec, score: float | None = None) -> list[dict[str, Json]]:
    """Write a class as the result of a prediction."""
    region: dict[str, Json] = {
        "from_name": spec.control_name,
        "to_name": spec.object_name,
        "type": "choices",
        "value": {"choices": [label]},
    }
    return [region if score is None else {**region, "score": score}]


def _parse(config: str) -> Element:
    if not config.strip():
        raise ProjectError(f"the project has no labeling interface yet: set one up, such as {EXAMPLE}")
    try:
        root: Element = SafeTree.fromstring(config)
    except ParseError as error:
        raise ProjectError(f"the labeling interface is not valid XML ({error})") from error
    except DefusedXmlException as error:
        raise ProjectError("the labeling interface declares XML entities, which are not read: remove them") from error
    return root


def _pair(
    control: Element, images: Mapping[str, Element], problems: list[str]
) -> tuple[Element, tuple[str, ...]] | None:
    """Give the image of a control and its classes, or note in one sentence why it is not usable."""
    name = control.get("name")
    targets = [target.strip() for target in control.get("toName", "").split(",")]
    image = next((images[target] for target in targets if target in images), None)
    if image is None:
        problems.append(f"<Choices> '{name}' is not about an <Image> (toName=\"{control.get('toName')}\")")
    elif not _data_key(image.get("value", "")):
        problems.append(f"<Image> '{image.get('name')}' does not say where the image is: give it value=\"$image\"")
    elif _is_true(control, "perRegion") or _is_true(control, "perItem"):
        problems.append(f"<Choices> '{name}' is about regions (perRegion or perItem), not about the image")
    elif "$" in control.get("value", ""):
        problems.append(f"<Choices> '{name}' takes its choices from each task: write them as <Choice> tags")
    elif _nested(control):
        problems.append(f"<Choices> '{name}' has choices within choices: write them as one list")
    elif len(classes := _classes(control)) < 2:
        problems.append(f"<Choices> '{name}' needs at least two <Choice> tags with different values")
    else:
        return image, classes
    return None


def _classes(control: Element) -> tuple[str, ...]:
    # Annotations hold a choice's alias where it has one.
    values = (choice.get("alias") or choice.get("value") or "" for choice in _tags(control, "choice"))
    return tuple(dict.fromkeys(value for value in values if value))


def _nested(control: Element) -> bool:
    return any(len(_tags(choice, "choice")) > 1 for choice in _tags(control, "choice"))


def _is_multiple(control: Element) -> bool:
    return control.get("choice", "").lower() == "multiple"


def _tags(root: Element, name: str) -> list[Element]:
    """List the tags of that name (lower case) in and below `root`; Label Studio does not mind their case."""
    return [tag for tag in root.iter() if isinstance(tag.tag, str) and tag.tag.lower() == name]


def _notice(control: Element, image: Element, controls: int, images: int) -> str | None:
    said = []
    if controls > 1 or images > 1:
        said.append(
            f"the labeling interface has {controls} <Choices> and {images} <Image> tags: "
            f"PT4AL learns '{control.get('name')}' on '{image.get('name')}' and leaves the others aside"
        )
    if _is_multiple(control):
        said.append(f"'{control.get('name')}' allows several choices: answers with more than one are left out")
    return "; ".join(said) or None


def _data_key(value: str) -> str:
    match = VARIABLE.search(value)
    if match is None:
        return ""
    return value[1:] if match.group() == value else value


def _walk(data: Json, path: str) -> Json:
    """Follow a path such as `images[0].url`."""
    value = data
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _choice(result: Sequence[Mapping[str, Json]], spec: LabelSpec) -> str | None:
    """Give the one class that an annotation names, None where it names none, several or one not in the config."""
    found = [choice for region in result for choice in _choices(region, spec)]
    return found[0] if len(found) == 1 and found[0] in spec.classes else None


def _choices(region: Json, spec: LabelSpec) -> list[Json]:
    """Give what one region of an annotation chooses; Label Studio takes regions of any shape by its API."""
    if not isinstance(region, Mapping) or region.get("from_name") != spec.control_name:
        return []
    value = region.get("value")
    chosen = value.get("choices") if isinstance(value, Mapping) and region.get("type") == "choices" else None
    return chosen if isinstance(chosen, list) else []


def _is_true(tag: Element, attribute: str) -> bool:
    return tag.get(attribute, "").lower() == "true"
