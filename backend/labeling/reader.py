"""From a label configuration (XML) to the labeling that is learned."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from backend.errors import ProjectError
from backend.items.reference import data_key_of, is_read
from backend.labeling.base import Control, Labeling, Reading, attribute, tags
from backend.labeling.regions import Regions, beside
from backend.labeling.registry import LABELINGS, make_labeling

EXAMPLE = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
LEARNABLE_TAGS = ", ".join(f"<{info.tag}>" for info in LABELINGS.values())
HIDING = frozenset({"region-selected", "choice-selected", "choice-unselected"})  # values of visibleWhen
# The tags that heed it, among those that matter here (1.23.2); a <Rating> does not.
HIDEABLE = frozenset({"view", "choices", "taxonomy"})
NOT_DISPLAYED = re.compile(r"(?:^|;)\s*display\s*:\s*none", re.IGNORECASE)  # in the style of a <View>
MENTIONED = 5  # control tags that a message names: it is one sentence


@dataclass(frozen=True)
class _Tag:
    """A control tag of the configuration.

    conditional: shown for some images only. repeated: within a ``<Repeater>``, which shows it once for each element of
    a list in the task's data.
    """

    element: Element
    conditional: bool
    repeated: bool = False

    @property
    def name(self) -> str:
        return attribute(self.element, "name")

    @property
    def kind(self) -> str:
        return self.element.tag.lower()

    def __str__(self) -> str:
        return f"'{self.name}' (<{self.element.tag}>)"


def read_labeling(
    config: str,
    control: str | None = None,
    learned: str | None = None,
    problem: str | None = None,
    background: bool = True,
) -> Labeling:
    """Return the labeling of the named control tag, of the learned one, or of the first one that can be learned.

    control, problem: names that a person has chosen; the tags of other problems are not learned then. learned: the name
    of what the project has learned so far, which it stays with while that is there. Else single ``<Choices>`` come
    first, then those with ``choice="multiple"``, then the others; control tags that are shown for some images only come
    last, behind them those that only prompt a model (``smart``). Those of one kind keep the order of the configuration.
    Control tags of areas of one image are learned together, unless a person has named one. background: see ``Reading``.

    Raises:
        ProjectError: there is none; the text says what to add.
    """
    root = _parse(config)
    images = {attribute(tag, "name"): tag for tag in tags(root, "image") if attribute(tag, "name")}
    controls = list(_controls(root))
    if not images:
        raise ProjectError(f"the labeling interface has no <Image> tag with a name: add one, such as {EXAMPLE}")
    candidates = [tag for tag in controls if tag.kind in LABELINGS]
    if control is not None:
        candidates = [_named(control, controls, images)]
    if not candidates:
        raise ProjectError(
            f"the labeling interface has no control tag that we can learn ({LEARNABLE_TAGS}) with name and toName: "
            f"add one, as in {EXAMPLE}"
        )
    reasons, reading = [], Reading(problem, control is not None, background)
    for candidate in _ordered(candidates, learned):
        try:
            labeling = _labeling(candidate, images, controls, reading)
        except ProjectError as error:
            reasons.append(str(error))
            continue
        notice = _notice(candidate, controls, images, learned, labeling)
        notices = (_gone(learned, controls), notice, labeling.notice)
        labeling.notice = " ".join(filter(None, notices)) or None
        return labeling
    text = "; ".join(reasons[:MENTIONED])
    raise ProjectError(f"the labeling interface has no control tag that we can learn: {text}")


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


def _controls(root: Element) -> Iterator[_Tag]:
    """Yield the control tags, which are those with a name and a toName, in the order of the configuration."""
    stack = [(root, False, False)]
    while stack:
        element, conditional, repeated = stack.pop()
        kind = element.tag.lower() if isinstance(element.tag, str) else ""
        conditional = conditional or (kind in HIDEABLE and _may_hide(element))
        repeated = repeated or kind == "repeater"
        if kind and attribute(element, "name") and attribute(element, "toName"):
            yield _Tag(element, conditional, repeated)
        stack += [(child, conditional, repeated) for child in reversed(element)]


def _may_hide(element: Element) -> bool:
    """Tell whether Label Studio hides a tag, and what is in it, for some images or for all."""
    when = attribute(element, "visibleWhen")
    if when in HIDING or (not when and attribute(element, "whenChoiceValue")):
        return True
    return NOT_DISPLAYED.search(attribute(element, "style")) is not None


def _ordered(candidates: Sequence[_Tag], learned: str | None) -> list[_Tag]:
    """Return control tags in the order in which they are tried.

    Earlier releases learned ``<Choices>`` alone: a project must not change what it learns when the backend is upgraded.
    """

    def rank(tag: _Tag) -> tuple[bool, ...]:
        several = tag.kind == "choices" and attribute(tag.element, "choice") == "multiple"
        prompts = attribute(tag.element, "smart").lower() == "true"
        return tag.name != learned, prompts, tag.conditional, tag.kind != "choices", several

    return sorted(candidates, key=rank)


def _labeling(tag: _Tag, images: Mapping[str, Element], controls: Sequence[_Tag], reading: Reading) -> Labeling:
    """Return the labeling of a control tag; raise ProjectError where it cannot be learned."""
    image = _image_of(tag, images)
    if image is None:
        to_name = attribute(tag.element, "toName")
        raise ProjectError(f"<{tag.element.tag}> '{tag.name}' is not about an <Image> (toName=\"{to_name}\")")
    if tag.repeated:
        raise ProjectError(
            f"<{tag.element.tag}> '{tag.name}' is repeated for each element of a list (<Repeater>), so that an image "
            "has no answer of its own: write it once, outside of the <Repeater>"
        )
    name, data_key = attribute(image, "name"), data_key_of(attribute(image, "value"))
    if attribute(image, "valueList"):
        raise ProjectError(
            f"<Image> '{name}' shows several images of each task (valueList), and an answer is for all of them "
            'together: give it value="$image", and each image a task of its own'
        )
    if not is_read(attribute(image, "value")):
        raise ProjectError(
            f"<Image> '{name}' has value=\"{attribute(image, 'value'):.40}\", for which Label Studio shows nothing: "
            "its names have letters from a to z, digits and _ alone. Rename the field in the tasks' data, and write "
            'its new name here, as in value="$image"'
        )
    if not data_key:
        raise ProjectError(f"<Image> '{name}' does not say where the image is: give it value=\"$image\"")
    others = tuple(
        Control(other.element, other.name, name, data_key, other.conditional)
        for other in controls
        if other is not tag and not other.repeated and _image_of(other, images) is image
    )
    control = Control(tag.element, tag.name, name, data_key, tag.conditional, others)
    labeling = make_labeling(control, reading)
    if reading.problem is not None and labeling.problem != reading.problem:
        raise ProjectError(f"{control} is learned as {labeling.problem}, not as the problem '{reading.problem}'")
    return labeling


def _image_of(tag: _Tag, images: Mapping[str, Element]) -> Element | None:
    names = [name.strip() for name in attribute(tag.element, "toName").split(",")]
    return next((images[name] for name in names if name in images), None)


def _named(name: str, controls: Sequence[_Tag], images: Mapping[str, Element]) -> _Tag:
    """Return the control tag of that name; raise ProjectError with what there is."""
    tag = next((tag for tag in controls if tag.name == name), None)
    if tag is not None and tag.kind in LABELINGS:
        return tag
    learnable = [tag for tag in controls if _is_learnable(tag, images, controls)]
    wanted = "no control tag has this name" if tag is None else f"we cannot learn <{tag.element.tag}>"
    raise ProjectError(
        f"control '{name}': {wanted}; there are {_list(controls)}, of which we can learn {_list(learnable)}"
    )


def _gone(learned: str | None, controls: Sequence[_Tag]) -> str | None:
    """Return what a person should know where the question that was learned is not there any more."""
    if learned is None or any(tag.name == learned for tag in controls):
        return None
    return f"'{learned}', which was learned so far, is not in the labeling interface: its labels rest until it is back."


def _notice(
    chosen: _Tag, controls: Sequence[_Tag], images: Mapping[str, Element], learned: str | None, labeling: Labeling
) -> str | None:
    """Return what a person should know about the parts that are left aside, None where there are none."""
    read = beside(labeling)
    aside = [tag for tag in controls if tag is not chosen and tag.name not in read]
    if not aside and len(images) == 1:
        return None
    image = _image_of(chosen, images)
    goes_on = learned == chosen.name and any(not tag.conditional for tag in controls[: controls.index(chosen)])
    verb = "goes on learning" if goes_on else "learns"
    joined = labeling.joined if isinstance(labeling, Regions) else ()
    names = " and ".join(f"'{name}'" for name in (chosen.name, *joined))
    text = f"PT4AL {verb} {names} on '{attribute(image, 'name') if image is not None else ''}'"
    if aside:
        text += f" and leaves aside {_list(aside)}"
    elif len(images) > 1:
        text += f", one of {len(images)} images"
    if any(_is_learnable(tag, images, controls) for tag in aside):
        text += '; "control" in the extra params names another one to learn'
    return text


def _is_learnable(tag: _Tag, images: Mapping[str, Element], controls: Sequence[_Tag]) -> bool:
    if tag.kind not in LABELINGS:
        return False
    try:
        _labeling(tag, images, controls, Reading(alone=True))
    except ProjectError:
        return False
    return True


def _list(controls: Sequence[_Tag]) -> str:
    """Return control tags as part of a sentence."""
    shown = [str(tag) for tag in controls[:MENTIONED]]
    more = len(controls) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "none"
