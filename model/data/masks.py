"""Class masks as plain JSON values, which targets and predictions of segmentation are.

A mask is ``{"classes": [...], "png": "..."}``: the names of the classes that it has, in the order of the
configuration, and a grey PNG in base64 whose pixels are BACKGROUND, 1 for the first of these classes and so on, or
IGNORED. A mask without any class may lack the picture: nobody painted anything, whatever the size.

It lies in the row of its task, not in a file beside it: a street scene of 480 x 360 pixels and ten classes takes 10 kB,
what is read together is written together, and nothing has to be collected. MOST bounds what a row can take.
"""

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]  # (height, width) of class ids

BACKGROUND, IGNORED = 0, 255
MOST_CLASSES = IGNORED - 1
MOST = 2048  # pixels of the longer side; larger masks are scaled down


def pack(pixels: Pixels, classes: Sequence[str]) -> dict[str, Any]:
    """Return the mask of class ids (height, width), 1 for the first of ``classes``."""
    pixels = scaled_down(pixels, MOST)
    present = np.bincount(pixels.ravel(), minlength=256) > 0
    ids = [number for number in range(1, len(classes) + 1) if present[number]]
    compact = np.full(256, IGNORED, np.uint8)
    compact[[BACKGROUND, *ids]] = np.arange(len(ids) + 1)
    file = io.BytesIO()
    Image.fromarray(compact[pixels]).save(file, "PNG")
    return {"classes": [classes[number - 1] for number in ids], "png": base64.b64encode(file.getvalue()).decode()}


def nothing() -> dict[str, Any]:
    """Return the mask of an image on which nobody painted anything."""
    return {"classes": []}


def is_mask(value: Any) -> bool:
    """Tell whether a value has the form of a mask; the picture itself is not opened."""
    if not isinstance(value, Mapping) or not isinstance(value.get("classes"), list):
        return False
    names = value["classes"]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return False
    return isinstance(value.get("png"), str) or ("png" not in value and not names)


def size_of(mask: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height of a mask in pixels, None where it has none."""
    return None if "png" not in mask else _open(mask["png"]).size


def unpack(mask: Mapping[str, Any], classes: Sequence[str], size: tuple[int, int] | None = None) -> Pixels:
    """Return the class ids (height, width) of a mask, 1 for the first of ``classes``.

    size: width and height in pixels, by default the mask's own. A class that is not among ``classes`` is IGNORED.
    """
    if "png" not in mask:
        width, height = size or (1, 1)
        return np.full((height, width), BACKGROUND, np.uint8)
    ids = {name: number for number, name in enumerate(classes, start=1)}
    wide = np.full(256, IGNORED, np.uint8)
    wide[: len(mask["classes"]) + 1] = [BACKGROUND, *(ids.get(name, IGNORED) for name in mask["classes"])]
    pixels: Pixels = wide[np.asarray(_open(mask["png"]))]
    return pixels if size is None else resized(pixels, size)


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return class ids at another size, width and height: each pixel is the nearest one."""
    height, width = pixels.shape
    if (width, height) == size:
        return pixels
    chosen: Pixels = pixels[np.ix_(nearest(size[1], height), nearest(size[0], width))]
    return chosen


def nearest(wanted: int, given: int) -> npt.NDArray[np.int64]:
    """Return which of ``given`` pixels in a row is the nearest to each of ``wanted`` ones that span the same."""
    places: npt.NDArray[np.int64] = np.minimum((np.arange(wanted) + 0.5) * (given / wanted), given - 1).astype(np.int64)
    return places


def enlarged(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return class ids at a larger size with smooth edges: the class whose share, interpolated, is the largest."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    present = np.unique(pixels)
    if len(present) == 1:
        return np.full((size[1], size[0]), present[0], np.uint8)
    best = np.zeros((size[1], size[0]), np.uint8)
    share = np.zeros_like(best)
    for number in present:
        part = Image.fromarray(np.where(pixels == number, 255, 0).astype(np.uint8))
        own = np.asarray(part.resize(size, Image.Resampling.BILINEAR))
        better = own > share
        best[better], share[better] = number, own[better]
    return best


def fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return class ids at any other size: with smooth edges where no side is shorter, else those of the nearest pixel.

    So a mask of the grid becomes one of its image.
    """
    larger = size[0] >= pixels.shape[1] and size[1] >= pixels.shape[0]
    return enlarged(pixels, size) if larger else resized(pixels, size)


def scaled_down(pixels: Pixels, most: int) -> Pixels:
    """Return class ids none of whose sides is above ``most``, the aspect kept."""
    height, width = pixels.shape
    return resized(pixels, within((width, height), most))


def within(size: tuple[int, int], most: int = MOST) -> tuple[int, int]:
    """Return width and height, scaled down until none of them is above ``most`` pixels."""
    scale = min(most / max(size), 1.0)
    width, height = (max(round(length * scale), 1) for length in size)
    return width, height


def _open(png: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(base64.b64decode(png)), formats=("PNG",))
    except (OSError, binascii.Error) as error:
        raise ValueError("a mask holds a damaged picture") from error
    return image
