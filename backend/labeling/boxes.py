"""``<RectangleLabels>`` and what else can be learned as boxes: an upright box with a class for each object."""

from collections.abc import Sequence
from typing import Any

from backend.labeling.base import Item
from backend.labeling.regions import Regions
from backend.labeling.shapes import OUTLINED, SHAPES, Drawn, bounds, ellipse_bounds, outline
from model.problems.base import Prediction, Target
from model.problems.detection import Detection, canonical

POINT_WIDTH = 0.5  # percent of the image's width: the dot of a predicted key point

_DETECTION = Detection()


class Boxes(Regions):
    """Objects with a class each. A target is a list of boxes, see ``model.problems.detection``.

    Of a rotated rectangle, an ellipse and a polygon the upright box around it is learned, within the image; of a key
    point a square of ``shapes.KEYPOINT_EXTENT``. Label Studio keeps what was drawn.
    """

    problem = _DETECTION.name
    readable = OUTLINED

    def read(self, drawn: Sequence[Drawn]) -> Target | None:
        """Return the boxes around the regions; None where a region has no geometry, or none of several an area."""
        boxes = []
        for region in drawn:
            points = outline(region)
            if points is None:
                return None
            around = ellipse_bounds(region) if region.shape == "ellipse" else bounds(points)
            if around is not None:
                boxes.append([region.label, *around])
        target = canonical(boxes, self.classes)
        return target if target or not drawn else None

    def write(self, prediction: Prediction, item: Item) -> Sequence[Drawn] | None:
        """Return the boxes in the shape that is drawn; None where one of their classes has gone."""
        if not _DETECTION.fits(prediction, self.classes):
            return None
        shape = SHAPES[self.drawing.kind]
        return [
            Drawn(str(label), shape, _value(shape, *(100 * share for share in numbers[:4])), score=_score(numbers))
            for label, *numbers in prediction
        ]


def _score(numbers: Sequence[float]) -> float | None:
    return round(float(numbers[4]), 4) if len(numbers) > 4 else None


def _value(shape: str, left: float, top: float, width: float, height: float) -> dict[str, Any]:
    """Return a box in percent as Label Studio has a region of that shape."""
    x, y = round(left + width / 2, 4), round(top + height / 2, 4)
    if shape == "ellipse":
        return {"x": x, "y": y, "radiusX": round(width / 2, 4), "radiusY": round(height / 2, 4), "rotation": 0}
    if shape == "keypoint":
        return {"x": x, "y": y, "width": POINT_WIDTH}
    if shape == "polygon":
        corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
        return {"points": [[round(place, 4) for place in corner] for corner in corners], "closed": True}
    places = {"x": left, "y": top, "width": width, "height": height}
    return {**{name: round(place, 4) for name, place in places.items()}, "rotation": 0}
