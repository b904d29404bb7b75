"""The control tags that can be learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backend.labeling.base import Control, Labeling
from backend.labeling.boxes import Boxes
from backend.labeling.choices import Choices
from backend.labeling.masks import Masks
from backend.labeling.rating import Rating
from backend.labeling.shapes import SHAPES
from backend.labeling.taxonomy import Taxonomy


@dataclass(frozen=True)
class LabelingInfo:
    """A kind of control tag.

    tag: its name as people write it. make: raises ProjectError where a control tag of this kind cannot be learned.
    others: the same for other problems than that of ``make``, by name, which the extra params may ask for.
    """

    tag: str
    make: Callable[[Control], Labeling]
    others: Mapping[str, Callable[[Control], Labeling]] = field(default_factory=dict)


def _paired(control: Control) -> Labeling:
    """Return the labeling of a ``<Labels>``, as what is drawn first beside it has it."""
    shapes = (SHAPES.get(other.kind) for other in control.others if not other.kind.endswith("labels"))
    first = next((shape for shape in shapes if shape is not None), None)
    return Masks(control) if first in ("brush", "bitmask", "polygon", "ellipse") else Boxes(control)


AS_BOXES: dict[str, Callable[[Control], Labeling]] = {Boxes.problem: Boxes}
AS_MASKS: dict[str, Callable[[Control], Labeling]] = {Masks.problem: Masks}

# By the tag's name in lower case.
LABELINGS: dict[str, LabelingInfo] = {
    "choices": LabelingInfo("Choices", Choices),
    "taxonomy": LabelingInfo("Taxonomy", Taxonomy),
    "rating": LabelingInfo("Rating", Rating),
    "brushlabels": LabelingInfo("BrushLabels", Masks),
    "bitmasklabels": LabelingInfo("BitmaskLabels", Masks),
    "polygonlabels": LabelingInfo("PolygonLabels", Masks, AS_BOXES),
    "ellipselabels": LabelingInfo("EllipseLabels", Masks, AS_BOXES),
    "rectanglelabels": LabelingInfo("RectangleLabels", Boxes, AS_MASKS),
    "keypointlabels": LabelingInfo("KeyPointLabels", Boxes),
    "labels": LabelingInfo("Labels", _paired, {**AS_BOXES, **AS_MASKS}),
}
