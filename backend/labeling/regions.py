"""What the labelings have in common whose answers are regions of the image with a class each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from backend.errors import ProjectError
from backend.labeling.base import Control, Item, Labeling, Refusal, Region, attribute, tags
from backend.labeling.shapes import SHAPES, Drawn, size_of
from model.problems.base import Prediction, Target

PAIRED = "labels"  # the tag that names the classes of what others draw


@dataclass(frozen=True)
class Naming:
    """A control tag that names the classes of regions, and the control tags that draw these, by their names.

    It draws itself, or those beside a ``<Labels>`` do.
    """

    tag: Control
    classes: tuple[str, ...]
    drawing: Mapping[str, Control]

    @property
    def paired(self) -> bool:
        """Whether others draw what it names."""
        return self.tag.kind == PAIRED


class Regions(ABC):
    """A control tag that gives regions of the image a class each: ``<RectangleLabels>``, or ``<Labels>`` with others.

    readable: shapes that the labeling understands (values of ``shapes.SHAPES``). joins: whether other control tags of
    the image are learned together with this one, where they give the same kind of target.
    """

    problem: str
    readable: frozenset[str]
    joins = False

    def __init__(self, control: Control) -> None:
        """Read the classes, and what draws.

        Raises:
            ProjectError: the control tag cannot be learned; the text says why and what to do.
        """
        if "$" in control.attribute("value"):
            raise ProjectError(f"{control} takes its labels from each task: write them as <Label> tags")
        names = [attribute(tag, "alias") or attribute(tag, "value") for tag in tags(control.tag, "label")]
        self.classes = tuple(dict.fromkeys(name for name in names if name))
        if not self.classes:
            raise ProjectError(f"{control} needs at least one <Label> tag with a value")
        self.control, self.data_key = control.name, control.data_key
        self.notice: str | None = None
        self._tag = control
        drawing = {
            drawing.name: drawing
            for drawing in ((control,) if control.kind != PAIRED else control.others)
            if SHAPES.get(drawing.kind) in self.readable and (drawing is control or not drawing.kind.endswith(PAIRED))
        }
        if not drawing:
            wanted = ", ".join(sorted(f"<{shape.title()}>" for shape in self.readable))
            raise ProjectError(
                f"{control} has nothing to draw with that we can learn: add one of {wanted} for its image"
            )
        self._naming = [Naming(control, self.classes, drawing)]

    def join(self, other: Self) -> None:
        """Read the regions of another labeling's control tag together with those of this one's."""
        self._naming += other._naming
        self.classes = tuple(dict.fromkeys((*self.classes, *other.classes)))

    @property
    def joined(self) -> tuple[str, ...]:
        """The names of the other control tags that name classes which are read together with this one's."""
        return tuple(naming.tag.name for naming in self._naming[1:])

    @property
    def drawing(self) -> Control:
        """The control tag that draws first, of the first one that names classes."""
        return next(iter(self._naming[0].drawing.values()))

    def written_with(self, label: str) -> tuple[Naming, Control]:
        """Return what names a class in predictions, and what draws it: the first one of the configuration."""
        return next(
            (naming, drawing)
            for naming in self._naming if label in naming.classes
            for drawing in naming.drawing.values()
        )  # fmt: skip

    def drawn(self, result: Sequence[Any]) -> list[Drawn] | Refusal:
        """Return the regions that an annotation draws, in their order, or why it cannot be learned."""
        if any(not isinstance(region, Mapping) for region in result):
            return "unusable"
        found: list[Drawn] = []
        for region, labels, drawing in self._labeled(result):
            value = region.get("value")
            if not isinstance(value, Mapping) or not isinstance(labels, list) or not all(map(_is_name, labels)):
                return "unusable"
            if not labels or not set(labels) <= set(self.classes):
                return "unknown"
            if region.get("type") != drawing.kind:
                return "unusable"
            found += [Drawn(label, SHAPES[drawing.kind], value, size_of(region)) for label in dict.fromkeys(labels)]
        return found

    def _labeled(self, result: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Any, Control]]:
        """Return each region that draws, with its labels and its control tag; no labels where it has no class."""
        # For a <Labels>, Label Studio writes two regions of one id: what was drawn, and its labels with the geometry.
        paired = {naming.tag.name for naming in self._naming if naming.paired}
        named = {
            str(region.get("id")): _value(region).get(PAIRED) for region in result if region.get("from_name") in paired
        }
        found = []
        for region in result:
            for naming in self._naming:
                drawing = naming.drawing.get(str(region.get("from_name")))
                if drawing is not None:
                    own = _value(region).get(drawing.kind)
                    found.append((region, named.get(str(region.get("id")), []) if naming.paired else own, drawing))
                    break
        return found

    def target(self, result: Sequence[Mapping[str, Any]]) -> Target | None:
        """Return what an annotation's regions say; None where they say nothing that can be learned.

        An annotation without a region says that there is nothing; where the control tag is shown for some images only,
        or Label Studio asks for an answer (``required``), it says nothing.
        """
        found = self.drawn(result)
        if isinstance(found, str) or (not found and (self._tag.conditional or self._is_required)):
            return None
        return self.read(found)

    @property
    def _is_required(self) -> bool:
        return any(naming.tag.is_set("required") for naming in self._naming)

    def refusal(self, result: Sequence[Mapping[str, Any]]) -> Refusal:
        """Return why an annotation's regions cannot be learned."""
        found = self.drawn(result)
        if isinstance(found, str):
            return found
        if not found:
            return "other" if result else "empty"
        return self.unread(found)

    def unread(self, drawn: Sequence[Drawn]) -> Refusal:
        """Return why ``read`` makes no target of regions."""
        return "unusable"

    def result(self, prediction: Prediction, item: Item) -> list[Region]:
        """Return a prediction as the regions that Label Studio shows; none where its classes have gone."""
        found = self.write(prediction, item)
        return (
            []
            if found is None
            else [region for number, drawn in enumerate(found) for region in self._shown(drawn, item, number)]
        )

    @abstractmethod
    def read(self, drawn: Sequence[Drawn]) -> Target | None:
        """Return the target that regions make; None for none."""

    @abstractmethod
    def write(self, prediction: Prediction, item: Item) -> Sequence[Drawn] | None:
        """Return the regions of a prediction, in the shapes of ``written_with``; None for one of another form."""

    def _shown(self, drawn: Drawn, item: Item, number: int) -> list[Region]:
        """Return a region as Label Studio has it, or two where a ``<Labels>`` names the class."""
        naming, drawing = self.written_with(drawn.label)
        sizes: Region = {} if drawn.score is None else {"score": drawn.score}
        if item.width and item.height:
            sizes |= {"original_width": item.width, "original_height": item.height, "image_rotation": 0}
        if not naming.paired:
            return [{**drawing.region({**drawn.value, drawing.kind: [drawn.label]}), **sizes}]
        shared = {**sizes, "id": f"{naming.tag.name}-{number}"}
        named = naming.tag.region({**drawn.value, PAIRED: [drawn.label]})
        return [{**drawing.region(drawn.value), **shared}, {**named, **shared}]


def beside(labeling: Labeling) -> tuple[str, ...]:
    """Return the names of the control tags whose regions a labeling reads besides that of its own."""
    if not isinstance(labeling, Regions):
        return ()
    drawing = [name for naming in labeling._naming for name in naming.drawing]
    return tuple(name for name in dict.fromkeys((*labeling.joined, *drawing)) if name != labeling.control)


def _value(region: Mapping[str, Any]) -> Mapping[str, Any]:
    value = region.get("value")
    return value if isinstance(value, Mapping) else {}


def _is_name(label: Any) -> bool:
    return isinstance(label, str)
