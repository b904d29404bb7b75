"""The control tags that can be learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backend.labeling.base import Control, Labeling
from backend.labeling.choices import Choices
from backend.labeling.masks import Masks
from backend.labeling.rating import Rating
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


# By the tag's name in lower case.
LABELINGS: dict[str, LabelingInfo] = {
    "choices": LabelingInfo("Choices", Choices),
    "taxonomy": LabelingInfo("Taxonomy", Taxonomy),
    "rating": LabelingInfo("Rating", Rating),
    "brushlabels": LabelingInfo("BrushLabels", Masks),
    "bitmasklabels": LabelingInfo("BitmaskLabels", Masks),
    "polygonlabels": LabelingInfo("PolygonLabels", Masks),
    "ellipselabels": LabelingInfo("EllipseLabels", Masks),
}
