"""From a label configuration (XML) to the labeling that is learned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from backend.errors import ProjectError
from backend.items.reference import data_key_of
from backend.labeling.base import Control, Labeling, attribute, tags
from backend.labeling.registry import LABELINGS

EXAMPLE = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
LEARNABLE_TAGS = ", ".join(f"<{info.tag}>" for info in LABELINGS.values())
HIDING = frozenset({"region-selected", "choice-selected", "choice-unselected"})  # values of visibleWhen
MENTIONED = 5  # control tags that a message names: it is one sentence


@dataclass(frozen=True)
class _Tag:
    """A control tag of the configuration; conditional: shown for some images only."""

    element: Element
    conditional: bool

    @property
    def name(self) -> str:
        return attribute(self.element, "name")

    @property
    def kind(self) -> str:
        return self.element.tag.lower()

    def __str__(self) -> str:
        return f"'{self.name}' (<{self.element.tag}>)"


def read_labeling(config: str, control: str | None = None) -> Labeling:
    """Return the labeling of the named control tag, or of the first one that can be learned.

    Single ``<Choices>`` come first, then those with ``choice="multiple"``, then the others; control tags that are shown
    for some images only come last. Those of one kind keep the order of the configuration.

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
    problems = []
    for candidate in _ordered(candidates):
        try:
            labeling = _labeling(candidate, images)
        except ProjectError as error:
            problems.append(str(error))
            continue
        labeling.notice = _notice(candidate, controls, images)
        return labeling
    text = "; ".join(problems[:MENTIONED])
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
    stack = [(root, False)]
    while stack:
        element, conditional = stack.pop()
        conditional = conditional or attribute(element, "visibleWhen").lower() in HIDING
        if isinstance(element.tag, str) and attribute(element, "name") and attribute(element, "toName"):
            yield _Tag(element, conditional)
        stack += [(child, conditional) for child in reversed(element)]


def _ordered(candidates: Sequence[_Tag]) -> list[_Tag]:
    """Return control tags in the order in which they are tried.

    Earlier releases learned ``<Choices>`` alone: a project must not change what it learns when the backend is upgraded.
    """

    def rank(tag: _Tag) -> tuple[bool, bool, bool]:
        return tag.conditional, tag.kind != "choices", attribute(tag.element, "choice").lower() == "multiple"

    return sorted(candidates, key=rank)


def _labeling(tag: _Tag, images: Mapping[str, Element]) -> Labeling:
    """Return the labeling of a control tag; raise ProjectError where it cannot be learned."""
    image = _image_of(tag, images)
    if image is None:
        to_name = attribute(tag.element, "toName")
        raise ProjectError(f"<{tag.element.tag}> '{tag.name}' is not about an <Image> (toName=\"{to_name}\")")
    name, data_key = attribute(image, "name"), data_key_of(attribute(image, "value"))
    if not data_key:
        raise ProjectError(f"<Image> '{name}' does not say where the image is: give it value=\"$image\"")
    return LABELINGS[tag.kind].make(Control(tag.element, tag.name, name, data_key, tag.conditional))


def _image_of(tag: _Tag, images: Mapping[str, Element]) -> Element | None:
    names = [name.strip() for name in attribute(tag.element, "toName").split(",")]
    return next((images[name] for name in names if name in images), None)


def _named(name: str, controls: Sequence[_Tag], images: Mapping[str, Element]) -> _Tag:
    """Return the control tag of that name; raise ProjectError with what there is."""
    tag = next((tag for tag in controls if tag.name == name), None)
    if tag is not None and tag.kind in LABELINGS:
        return tag
    learnable = [tag for tag in controls if _is_learnable(tag, images)]
    wanted = "no control tag has this name" if tag is None else f"we cannot learn <{tag.element.tag}>"
    raise ProjectError(
        f"control '{name}': {wanted}; there are {_list(controls)}, of which we can learn {_list(learnable)}"
    )


def _notice(learned: _Tag, controls: Sequence[_Tag], images: Mapping[str, Element]) -> str | None:
    """Return what a person should know about the parts that are left aside, None where there are none."""
    aside = [tag for tag in controls if tag is not learned]
    if not aside and len(images) == 1:
        return None
    image = _image_of(learned, images)
    text = f"PT4AL learns '{learned.name}' on '{attribute(image, 'name') if image is not None else ''}'"
    if aside:
        text += f" and leaves aside {_list(aside)}"
    elif len(images) > 1:
        text += f", one of {len(images)} images"
    if any(_is_learnable(tag, images) for tag in aside):
        text += '; "control" in the extra params names another one to learn'
    return text


def _is_learnable(tag: _Tag, images: Mapping[str, Element]) -> bool:
    if tag.kind not in LABELINGS:
        return False
    try:
        _labeling(tag, images)
    except ProjectError:
        return False
    return True


def _list(controls: Sequence[_Tag]) -> str:
    """Return control tags as part of a sentence."""
    shown = [str(tag) for tag in controls[:MENTIONED]]
    more = len(controls) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "none"
