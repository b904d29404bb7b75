"""The control tags that can be learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from backend.errors import ProjectError
from backend.labeling.base import Control, Labeling, Reading
from backend.labeling.boxes import Boxes
from backend.labeling.choices import Choices
from backend.labeling.masks import Masks
from backend.labeling.rating import Rating
from backend.labeling.regions import Regions
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


def make_labeling(control: Control, reading: Reading) -> Labeling:
    """Return the labeling of a control tag, with those of its image that are learned together with it.

    Raises:
        ProjectError: the control tag cannot be learned; the text says why and what to do.
    """
    labeling = _made(control, reading)
    if isinstance(labeling, Masks):
        labeling.background = reading.background
    if isinstance(labeling, Regions) and labeling.joins and not reading.alone:
        for other in _joined(control, labeling, reading):
            labeling.join(other)
    return labeling


def _made(control: Control, reading: Reading) -> Labeling:
    info = LABELINGS[control.kind]
    return info.others.get(reading.problem or "", info.make)(control)


def _joined(control: Control, labeling: Regions, reading: Reading) -> list[Regions]:
    """Return the other labelings of the image that give the same kind of target, and are shown for every image."""
    found = []
    for other in control.others:
        if other.kind not in LABELINGS or other.conditional or other.is_set("smart"):
            continue
        rest = tuple(one for one in control.others if one is not other)
        try:
            made = _made(replace(other, others=rest), reading)
        except ProjectError:
            continue
        if isinstance(made, Regions) and type(made) is type(labeling):
            found.append(made)
    return found
