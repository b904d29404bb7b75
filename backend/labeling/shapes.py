"""The regions that Label Studio draws on images, as geometry.

Coordinates of a region are percent of the image as a browser shows it, after its EXIF rotation; here they are shares of
it, 0 to 1. A rotation is in degrees, clockwise, in the image's pixels: a rectangle turns around its first corner, an
ellipse around its centre.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, hypot, isfinite, pi, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # (n, 2): x and y as shares of the image

# The control tags that draw, and the shape that each draws. Those with "labels" name the class of a region themselves;
# for the others, a <Labels> does.
SHAPES = {
    "rectanglelabels": "rectangle", "rectangle": "rectangle",
    "ellipselabels": "ellipse", "ellipse": "ellipse",
    "polygonlabels": "polygon", "polygon": "polygon",
    "keypointlabels": "keypoint", "keypoint": "keypoint",
    "brushlabels": "brush", "brush": "brush",
    "bitmasklabels": "bitmask", "bitmask": "bitmask",
}  # fmt: skip
OUTLINED = frozenset({"rectangle", "ellipse", "polygon", "keypoint"})  # shapes that ``outline`` knows
KEYPOINT_EXTENT = 0.06  # of the shorter side: the square that stands for a point
ELLIPSE_POINTS = 64  # of the outline of an ellipse
LARGEST = 1e6  # percent: what is further out is no place


@dataclass(frozen=True)
class Drawn:
    """A region of a class. label: the class. shape: a value of SHAPES. value: as Label Studio has it.

    size: width and height of the image in pixels, None where the region does not say them. score: of a prediction.
    """

    label: str
    shape: str
    value: Mapping[str, Any]
    size: tuple[int, int] | None = None
    score: float | None = None

    @property
    def aspect(self) -> float:
        """Width of the image by its height; 1 where it is not known."""
        return self.size[0] / self.size[1] if self.size is not None else 1.0


def size_of(region: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the original width and height that a region says; None where it does not."""
    width, height = (_number(region.get(name)) for name in ("original_width", "original_height"))
    if width is None or height is None or min(width, height) < 1:
        return None
    return int(width), int(height)


def outline(drawn: Drawn) -> Points | None:
    """Return the corners of a region, (n, 2) as shares of the image, not clipped to it; None for no such region.

    A key point is a square of KEYPOINT_EXTENT.
    """
    value, aspect = drawn.value, drawn.aspect
    if drawn.shape == "polygon":
        return _polygon(value.get("points"))
    names = {
        "rectangle": ("x", "y", "width", "height"), "ellipse": ("x", "y", "radiusX", "radiusY"), "keypoint": ("x", "y"),
    }  # fmt: skip
    numbers = [_number(value.get(name)) for name in names.get(drawn.shape, ())]
    turn = _number(value.get("rotation", 0))
    if not numbers or turn is None or any(number is None or abs(number) > LARGEST for number in numbers):
        return None
    places = [number / 100 for number in numbers if number is not None]
    if drawn.shape == "keypoint":
        across, down = (KEYPOINT_EXTENT / 2 * part for part in (min(1 / aspect, 1), min(aspect, 1)))
        return _rectangle(places[0] - across, places[1] - down, 2 * across, 2 * down, 0.0, aspect)
    if min(places[2:]) < 0:
        return None
    x, y, across, down = places
    return (_rectangle if drawn.shape == "rectangle" else _ellipse)(x, y, across, down, turn, aspect)


def bounds(points: Points) -> tuple[float, float, float, float]:
    """Return the upright box around points, within the image: left, top, width and height as shares, 0 to 1."""
    low, high = np.clip(points.min(axis=0), 0.0, 1.0), np.clip(points.max(axis=0), 0.0, 1.0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def ellipse_bounds(drawn: Drawn) -> tuple[float, float, float, float] | None:
    """Return the upright box around an ellipse exactly, which its outline comes short of a little."""
    if outline(drawn) is None:
        return None
    x, y, rx, ry = (float(drawn.value[name]) / 100 for name in ("x", "y", "radiusX", "radiusY"))
    turn, aspect = radians(float(drawn.value.get("rotation", 0))), drawn.aspect
    across = hypot(rx * cos(turn), ry / aspect * sin(turn))
    down = hypot(rx * aspect * sin(turn), ry * cos(turn))
    return bounds(np.array([[x - across, y - down], [x + across, y + down]]))


def _rectangle(x: float, y: float, width: float, height: float, turn: float, aspect: float) -> Points:
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    return np.array([x, y]) + _turned(corners, turn, aspect)


def _ellipse(x: float, y: float, rx: float, ry: float, turn: float, aspect: float) -> Points:
    angles = 2 * pi * np.arange(ELLIPSE_POINTS) / ELLIPSE_POINTS
    return np.array([x, y]) + _turned(np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1), turn, aspect)


def _turned(points: Points, turn: float, aspect: float) -> Points:
    """Return points turned clockwise around the origin: in pixels, of which ``aspect`` times as many lie across."""
    c, s = cos(radians(turn)), sin(radians(turn))
    x, y = points[:, 0] * aspect, points[:, 1]
    return np.stack([(x * c - y * s) / aspect, x * s + y * c], axis=1)


def _polygon(points: Any) -> Points | None:
    if not isinstance(points, list | tuple) or len(points) < 3:
        return None
    numbers = [
        [_number(place) for place in point] if isinstance(point, list | tuple) and len(point) == 2 else [None]
        for point in points
    ]
    if any(number is None or abs(number) > LARGEST for row in numbers for number in row):
        return None
    return np.array(numbers, np.float64) / 100


def _number(value: Any) -> float | None:
    """Return a finite number; None for anything else, which JSON of any form may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
