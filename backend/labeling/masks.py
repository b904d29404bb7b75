"""Regions as areas: brushes, bitmasks, polygons, rectangles and ellipses, to a class for each pixel and back."""

import base64
import binascii
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from backend.errors import ProjectError
from backend.labeling.base import Control, Item, Refusal
from backend.labeling.raster import covered, outlines
from backend.labeling.regions import Naming, Regions
from backend.labeling.rle import decode_mask, encode_mask
from backend.labeling.shapes import SHAPES, Drawn, outline
from model.data.masks import (
    BACKGROUND,
    IGNORED,
    MOST_CLASSES,
    Pixels,
    fitted,
    is_mask,
    nothing,
    pack,
    resized,
    unpack,
    within,
)
from model.problems.base import Prediction, Target

Mask = npt.NDArray[np.bool_]  # (height, width)
Size = tuple[int, int]  # width, height

PIXELS = frozenset({"brush", "bitmask"})  # shapes that hold pixels; the others hold an outline
WRITTEN = ("brush", "bitmask", "polygon", "ellipse", "rectangle")  # shapes, those that say most of a mask first
UNKNOWN_SIZE = (512, 512)  # of outlines whose regions do not say the size of the image: they are shares of it
TOO_MANY = 200_000_000  # pixels of an image: what claims so many is no image
SMALLEST = 0.0004  # share of the image that a predicted class covers at least: less is in nobody's interest to correct
_PNG = "data:image/png;base64,"


class Masks(Regions):
    """Areas of an image: later regions lie over earlier ones, and what nobody painted is the background, or unknown.

    Predictions are one region a class, with a brush or a bitmask, or one a connected part: its outline as a polygon, or
    what is around it where there is nothing but rectangles or ellipses to draw with. background: see ``Reading``.
    """

    problem = "segmentation"
    readable = frozenset(WRITTEN)
    joins = True

    def __init__(self, control: Control) -> None:
        """Read the classes; raise ProjectError where they cannot be learned."""
        super().__init__(control)
        self.background = True
        self._check()

    def join(self, other: Self) -> None:
        """Read the regions of another control tag as well; raise ProjectError where there are too many classes."""
        super().join(other)
        self._check()

    def _check(self) -> None:
        if len(self.classes) > MOST_CLASSES:
            names = " and ".join((str(self._tag), *(f"'{name}'" for name in self.joined)))
            have = "have together" if self.joined else "has"
            raise ProjectError(f"{names} {have} {len(self.classes)} labels: masks can have {MOST_CLASSES}")

    def written_with(self, label: str) -> tuple[Naming, Control]:
        """Return what names a class in predictions, and what draws it: of several, what says most of a mask."""
        choices = [
            (naming, drawing)
            for naming in self._naming if label in naming.classes
            for drawing in naming.drawing.values()
        ]  # fmt: skip
        return min(choices, key=lambda choice: WRITTEN.index(SHAPES[choice[1].kind]))

    def read(self, drawn: Sequence[Drawn]) -> Target | None:
        """Return the mask that regions make; None where one is no area, or where nothing says what any pixel is."""
        if _is_huge(drawn):
            return None
        size = _size(drawn)
        kept = within(size)  # more is not kept, and takes its time: 0.2 s a polygon in a photo of 12 megapixels
        rest = BACKGROUND if self.background else IGNORED
        pixels = np.full((kept[1], kept[0]), rest, np.uint8)
        for one in drawn:
            area = _area(one, size, kept)
            if area is None:
                return None
            pixels[area] = self.classes.index(one.label) + 1
        if (pixels == rest).all():
            return nothing() if self.background else None
        return pack(pixels, self.classes)

    def unread(self, drawn: Sequence[Drawn]) -> Refusal:
        """Return why ``read`` makes no mask of regions."""
        if _is_huge(drawn):
            return "huge"
        size = _size(drawn)
        areas = (_area(one, size, within(size)) for one in drawn)
        return "unusable" if any(area is None for area in areas) else "empty"

    def write(self, prediction: Prediction, item: Item) -> Sequence[Drawn] | None:
        """Return the regions of a mask, the largest class first, so that small ones lie above.

        None where the image's size is not known: a brush's run lengths are those of its pixels.
        """
        if not is_mask(prediction) or not set(prediction["classes"]) <= set(self.classes):
            return None
        if not item.width or not item.height:
            return None
        size = item.width, item.height
        pixels = fitted(unpack(prediction, self.classes), size)
        counts = np.bincount(pixels.ravel(), minlength=256)[1 : len(self.classes) + 1]
        classes = [int(number) for number in np.argsort(-counts) if counts[number] > SMALLEST * pixels.size]
        shapes = [SHAPES[self.written_with(self.classes[number])[1].kind] for number in classes]
        return [
            Drawn(self.classes[number], shape, value, size)
            for number, shape in zip(classes, shapes, strict=True)
            for value in _values(pixels == number + 1, shape)
        ]


def _size(drawn: Sequence[Drawn]) -> Size:
    """Return the size of the image that most regions say."""
    sizes = Counter(one.size for one in drawn if one.size is not None)
    return sizes.most_common(1)[0][0] if sizes else UNKNOWN_SIZE


def _is_huge(drawn: Sequence[Drawn]) -> bool:
    """Tell whether a region claims an image that is larger than any."""
    return any(one.size is not None and one.size[0] * one.size[1] >= TOO_MANY for one in drawn)


def _area(drawn: Drawn, size: Size, kept: Size) -> Mask | None:
    """Return the pixels of a region in an image of ``size``, scaled to ``kept``; None for one of another form."""
    if drawn.shape in PIXELS:
        if drawn.shape == "brush":
            return _brushed(drawn.value, drawn.size or size, kept)
        mask = _bitmask(drawn.value)
        return None if mask is None else resized(mask.view(np.uint8), kept).astype(np.bool_)
    points = outline(drawn)
    return None if points is None else covered(points * np.array(kept, np.float64), *kept)


def _brushed(value: Mapping[str, Any], size: Size, kept: Size) -> Mask | None:
    try:
        return decode_mask(value["rle"], *size, kept) if value.get("format") == "rle" else None
    except (ValueError, KeyError, TypeError):
        return None


def _bitmask(value: Mapping[str, Any]) -> Mask | None:
    """Return what a bitmask paints: its opaque pixels, or where it has no transparency, those that are not black."""
    url = value.get("imageDataURL")
    if not isinstance(url, str) or not url.startswith(_PNG):
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(url[len(_PNG) :], validate=True)), formats=("PNG",)) as image:
            if image.width * image.height >= TOO_MANY:
                return None
            if image.has_transparency_data:
                layer = (image if image.mode in ("RGBA", "LA") else image.convert("RGBA")).getchannel("A")
            else:
                layer = image.convert("L")
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
