"""What the labelings have in common whose answers are regions of the image with a class each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from backend.errors import ProjectError
from backend.labeling.base import Control, Item, Refusal, Region, attribute, tags
from backend.labeling.shapes import SHAPES, Drawn, size_of
from model.problems.base import Prediction, Target

PAIRED = "labels"  # the tag that names the classes of what others draw


class Regions(ABC):
    """A control tag that gives regions of the image a class each: ``<RectangleLabels>``, or ``<Labels>`` with others.

    readable: shapes that the labeling understands (values of ``shapes.SHAPES``). written: the shape that its
    predictions have, or the first one that the configuration can show, in the order of preference.
    """

    problem: str
    readable: frozenset[str]

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
        # The control tags that draw what this one names: itself, or those beside a <Labels>.
        self._drawing = {
            drawing.name: drawing
            for drawing in ((control,) if control.kind != PAIRED else control.others)
            if SHAPES.get(drawing.kind) in self.readable and (drawing is control or not drawing.kind.endswith(PAIRED))
        }
        if not self._drawing:
            wanted = ", ".join(sorted(f"<{shape.title()}>" for shape in self.readable))
            raise ProjectError(
                f"{control} has nothing to draw with that we can learn: add one of {wanted} for its image"
            )

    @property
    def drawing(self) -> Control:
        """The control tag that predictions are drawn with: the first one of the configuration."""
        return next(iter(self._drawing.values()))

    def drawn(self, result: Sequence[Any]) -> list[Drawn] | Refusal:
        """Return the regions that an annotation draws, in their order, or why it cannot be learned."""
        if any(not isinstance(region, Mapping) for region in result):
            return "unusable"
        found: list[Drawn] = []
        for region, labels in self._labeled(result):
            value = region.get("value")
            if not isinstance(value, Mapping) or not isinstance(labels, list) or not all(map(_is_name, labels)):
                return "unusable"
            if not labels or not set(labels) <= set(self.classes):
                return "unknown"
            shape = self._shape_of(region, value)
            if shape is None:
                return "unusable"
            found += [Drawn(label, shape, value, size_of(region)) for label in dict.fromkeys(labels)]
        return found

    def _labeled(self, result: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Any]]:
        """Return each region that draws, with its labels; none where it has no class."""
        if self._tag.kind != PAIRED:
            own = [region for region in result if region.get("from_name") == self.control]
            return [(region, _value(region).get(self._tag.kind)) for region in own]
        # Label Studio writes two regions of one id: what was drawn, and its labels with the same geometry.
        named = {
            str(region.get("id")): _value(region).get(PAIRED) for region in result
            if region.get("from_name") == self.control
        }  # fmt: skip
        drawn = [region for region in result if region.get("from_name") in self._drawing]
        return [(region, named.get(str(region.get("id")), [])) for region in drawn]

    def _shape_of(self, region: Mapping[str, Any], value: Mapping[str, Any]) -> str | None:
        drawing = self._drawing[str(region["from_name"])]
        return SHAPES[drawing.kind] if region.get("type") == drawing.kind else None

    def target(self, result: Sequence[Mapping[str, Any]]) -> Target | None:
        """Return what an annotation's regions say; None where they say nothing that can be learned.

        An annotation without a region says that there is nothing; where the control tag is shown for some images only,
        or Label Studio asks for an answer (``required``), it says nothing.
        """
        found = self.drawn(result)
        if isinstance(found, str) or (not found and (self._tag.conditional or self._tag.is_set("required"))):
            return None
        return self.read(found)

    def refusal(self, result: Sequence[Mapping[str, Any]]) -> Refusal:
        """Return why an annotation's regions cannot be learned."""
        found = self.drawn(result)
        if isinstance(found, str):
            return found
        if not found:
            return "other" if result else "empty"
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
        """Return the regions of a prediction, of the shape that ``drawing`` draws; None for one of another form."""

    def _shown(self, drawn: Drawn, item: Item, number: int) -> list[Region]:
        """Return a region as Label Studio has it, or two where a ``<Labels>`` names the class."""
        drawing = self.drawing
        sizes: Region = {} if drawn.score is None else {"score": drawn.score}
        if item.width and item.height:
            sizes |= {"original_width": item.width, "original_height": item.height, "image_rotation": 0}
        if self._tag.kind != PAIRED:
            return [{**drawing.region({**drawn.value, drawing.kind: [drawn.label]}), **sizes}]
        shared = {**sizes, "id": f"{self.control}-{number}"}
        named = self._tag.region({**drawn.value, PAIRED: [drawn.label]})
        return [{**drawing.region(drawn.value), **shared}, {**named, **shared}]


def _value(region: Mapping[str, Any]) -> Mapping[str, Any]:
    value = region.get("value")
    return value if isinstance(value, Mapping) else {}


def _is_name(label: Any) -> bool:
    return isinstance(label, str)
