"""Regions as areas: brushes, bitmasks, polygons, rectangles and ellipses, to a class for each pixel and back."""

import base64
import binascii
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from backend.errors import ProjectError
from backend.labeling.base import Control, Item
from backend.labeling.raster import covered, outlines
from backend.labeling.regions import Regions
from backend.labeling.rle import decode_mask, encode_mask
from backend.labeling.shapes import SHAPES, Drawn, outline
from model.data.masks import BACKGROUND, MOST_CLASSES, Pixels, fitted, is_mask, nothing, pack, resized, unpack, within
from model.problems.base import Prediction, Target

Mask = npt.NDArray[np.bool_]  # (height, width)
Size = tuple[int, int]  # width, height

PIXELS = frozenset({"brush", "bitmask"})  # shapes that hold pixels; the others hold an outline
WRITTEN = ("brush", "bitmask", "polygon", "ellipse", "rectangle")  # shapes, those that say most of a mask first
UNKNOWN_SIZE = (512, 512)  # of outlines whose regions do not say the size of the image: they are shares of it
MOST_PIXELS = 200_000_000  # of an image: what claims more is no image
SMALLEST = 0.0004  # share of the image that a predicted class covers at least: less is in nobody's interest to correct
_PNG = "data:image/png;base64,"


class Masks(Regions):
    """Areas of an image: later regions lie over earlier ones, and what nobody painted is the background.

    Predictions are one region a class, with a brush or a bitmask, or one a connected part: its outline as a polygon, or
    what is around it where there is nothing but rectangles or ellipses to draw with.
    """

    problem = "segmentation"
    readable = frozenset(WRITTEN)

    def __init__(self, control: Control) -> None:
        """Read the classes; raise ProjectError where they cannot be learned."""
        super().__init__(control)
        if len(self.classes) > MOST_CLASSES:
            raise ProjectError(f"{control} has {len(self.classes)} labels: masks can have {MOST_CLASSES}")

    @property
    def drawing(self) -> Control:
        """The control tag that predictions are drawn with: of several, the one that says most of a mask."""
        return min(self._drawing.values(), key=lambda drawing: WRITTEN.index(SHAPES[drawing.kind]))

    def read(self, drawn: Sequence[Drawn]) -> Target | None:
        """Return the mask that regions make, None where one of them is no area."""
        sizes = Counter(one.size for one in drawn if one.size is not None)
        size = sizes.most_common(1)[0][0] if sizes else UNKNOWN_SIZE
        if size[0] * size[1] > MOST_PIXELS:
            return None
        kept = within(size)  # more is not kept, and takes its time: 0.2 s a polygon in a photo of 12 megapixels
        pixels = np.full((kept[1], kept[0]), BACKGROUND, np.uint8)
        for one in drawn:
            area = _area(one, size, kept)
            if area is None:
                return None
            pixels[area] = self.classes.index(one.label) + 1
        return pack(pixels, self.classes) if pixels.any() else nothing()

    def write(self, prediction: Prediction, item: Item) -> Sequence[Drawn] | None:
        """Return the regions of a mask, the largest class first, so that small ones lie above.

        None where the image's size is not known: a brush's run lengths are those of its pixels.
        """
        if not is_mask(prediction) or not set(prediction["classes"]) <= set(self.classes):
            return None
        if not item.width or not item.height:
            return None
        size, shape = (item.width, item.height), SHAPES[self.drawing.kind]
        pixels = fitted(unpack(prediction, self.classes), size)
        counts = np.bincount(pixels.ravel(), minlength=256)[1 : len(self.classes) + 1]
        classes = [int(number) for number in np.argsort(-counts) if counts[number] > SMALLEST * pixels.size]
        return [
            Drawn(self.classes[number], shape, value, size)
            for number in classes
            for value in _values(pixels == number + 1, shape)
        ]


def _area(drawn: Drawn, size: Size, kept: Size) -> Mask | None:
    """Return the pixels of a region in an image of ``size``, scaled to ``kept``; None for one of another form."""
    if drawn.shape in PIXELS:
        own = drawn.size or size
        if own[0] * own[1] > MOST_PIXELS:
            return None
        mask = _brushed(drawn.value, own) if drawn.shape == "brush" else _bitmask(drawn.value)
        return None if mask is None else resized(mask.astype(np.uint8), kept).astype(np.bool_)
    points = outline(drawn)
    return None if points is None else covered(points * np.array(kept, np.float64), *kept)


def _brushed(value: Mapping[str, Any], size: Size) -> Mask | None:
    try:
        return decode_mask(value["rle"], *size) if value.get("format") == "rle" else None
    except (ValueError, KeyError, TypeError):
        return None


def _bitmask(value: Mapping[str, Any]) -> Mask | None:
    """Return what a bitmask paints: its opaque pixels, or where it has no transparency, those that are not black."""
    url = value.get("imageDataURL")
    if not isinstance(url, str) or not url.startswith(_PNG):
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(url[len(_PNG) :], validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            layer = image.convert("RGBA").getchannel("A") if image.has_transparency_data else image.convert("L")
            values: Pixels = np.asarray(layer)
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError):
        return None
    painted: Mask = values > int(values.max(initial=0)) // 2
    return painted


def _values(mask: Mask, shape: str) -> list[dict[str, Any]]:
    """Return the values of the regions that paint a mask."""
    if shape == "brush":
        return [{"format": "rle", "rle": encode_mask(mask)}]
    if shape == "bitmask":
        rgba = np.zeros((*mask.shape, 4), np.uint8)
        rgba[..., 3] = np.where(mask, 255, 0)
        file = io.BytesIO()
        Image.fromarray(rgba).save(file, "PNG")
        return [{"imageDataURL": _PNG + base64.b64encode(file.getvalue()).decode()}]
    percent = 100.0 / np.array([mask.shape[1], mask.shape[0]])
    found = [np.round(points * percent, 4) for points in outlines(mask)]
    if shape == "polygon":
        return [{"points": points.tolist(), "closed": True} for points in found]
    values = []
    for points in found:
        (left, top), (width, height) = points.min(axis=0).tolist(), np.ptp(points, axis=0).tolist()
        if shape == "rectangle":
            values.append({"x": left, "y": top, "width": width, "height": height, "rotation": 0})
        else:
            radii = {"radiusX": width / 2, "radiusY": height / 2}
            values.append({"x": left + width / 2, "y": top + height / 2, **radii, "rotation": 0})
    return values
