"""Label configurations, annotations and a problem for the tests of labelings."""

from types import SimpleNamespace
from typing import Any

from backend.labeling.base import Labeling
from backend.labeling.reader import read_labeling
from backend.studio.types import AnnotationRecord
from model.problems.base import Problem

IMAGE = '<Image name="image" value="$image"/>'
PAIR = '<Choice value="cat"/><Choice value="dog"/>'
TREE = (
    '<Choice value="animal"><Choice value="cat"/><Choice value="Big dog" alias="dog"/></Choice><Choice value="plant"/>'
)

# The rule that every problem has unless it brings one of its own: the most frequent answer.
MOST_FREQUENT = SimpleNamespace(
    merge=lambda votes: Problem.merge(SimpleNamespace(), votes),  # type: ignore[arg-type]
    left_out=lambda votes: 0,
)


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def tag(kind: str, inner: str = PAIR, name: str = "choice", to: str = "image", extra: str = "") -> str:
    return f'<{kind} name="{name}" toName="{to}" {extra}>{inner}</{kind}>'


def choices(inner: str = PAIR, name: str = "choice", to: str = "image", extra: str = "") -> str:
    return tag("Choices", inner, name, to, extra)


def labeling_of(*tags: str, control: str | None = None) -> Labeling:
    """Read a configuration with an image and these tags."""
    return read_labeling(view(IMAGE, *tags), control)


def region(value: Any, kind: str = "choices", name: str = "choice") -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": kind, "value": value}


def annotation(*regions: Any, skipped: bool = False) -> AnnotationRecord:
    return AnnotationRecord(1, regions, skipped)


LABELS = '<Label value="cat"/><Label value="Big dog" alias="dog"/>'
# Control tags whose answers are regions, and what draws them.
REGIONS = {
    "rectanglelabels": tag("RectangleLabels", LABELS),
    "ellipselabels": tag("EllipseLabels", LABELS),
    "polygonlabels": tag("PolygonLabels", LABELS),
    "keypointlabels": tag("KeyPointLabels", LABELS),
    "labels, rectangles": tag("Labels", LABELS) + '<Rectangle name="drawn" toName="image"/>',
    "labels, key points": tag("Labels", LABELS) + '<KeyPoint name="drawn" toName="image"/>',
}
