"""Pictures of more than 8 bits, to 8 bits."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, TiffImagePlugin

from model.data.ranges import COLOUR, FLOAT, INTEGER, Depth, Ranges

_DEFAULTS = {"I;16": (0.0, 65535.0), COLOUR: (0.0, 255.0)}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _NODATA = 258, 262, 42113  # tags of a TIFF; the last one is that of GDAL
_WHITE_IS_ZERO = 0
_LARGEST = 1e30  # beyond it stand marks for "no value"


def kind_of(image: Image.Image) -> str | None:
    """Return the kind of an image that is opened and not loaded yet; None for one of 8 bits or fewer."""
    if image.mode == "F":
        return FLOAT
    if image.mode == "I" or image.mode.startswith("I;16"):
        return INTEGER
    if isinstance(image, PngImagePlugin.PngImageFile):
        return COLOUR if any(";16" in str(tile[3]) for tile in image.tile) else None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, ())
        return COLOUR if max(bits if isinstance(bits, tuple) else (bits,), default=0) == 16 else None
    return None


def depth_of(image: Image.Image, kind: str, tiles: Iterable[Image.Image]) -> Depth:
    """Return the range of an image's values; pixels that are marked as being without a value do not count."""
    nodata = _nodata(image)
    ends = list(_ends(kind, tiles, nodata))
    if not ends:
        return Depth(kind, *_default(image, kind, (0.0, 1.0)))
    return Depth(kind, min(low for low, _ in ends), max(high for _, high in ends))


@dataclass(frozen=True, slots=True)
class Scale:
    """How the values of one picture become 8 bits: what is black and white, and whether the lowest is white."""

    kind: str
    low: float
    high: float
    inverted: bool = False

    def to_rgb(self, tile: Image.Image) -> Image.Image:
        """Return a tile as RGB; values outside the range are black or white."""
        if self.kind == COLOUR:
            table = self._scaled(np.arange(256, dtype=np.float64)).tolist()
            return tile.point(table * len(tile.getbands()))
        grey = self._scaled(np.nan_to_num(np.asarray(tile, np.float64), nan=self.low))
        return Image.fromarray(255 - grey if self.inverted else grey).convert("RGB")

    def _scaled(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """Map the range to 0..255, rounding to the nearest."""
        unit = (np.clip(values, self.low, self.high) - self.low) / max(self.high - self.low, 1e-12)
        return np.rint(unit * 255).astype(np.uint8)


def scale_of(image: Image.Image, depth: Depth, ranges: Ranges | None) -> Scale:
    """Return the scale of a picture: the pool's range of its kind, else that of the file's format or of its values."""
    low, high = (ranges or {}).get(depth.kind) or _default(image, depth.kind, (depth.low, depth.high))
    return Scale(depth.kind, low, high, _is_inverted(image, depth.kind))


def _is_inverted(image: Image.Image, kind: str) -> bool:
    """Tell whether the lowest value is white: Pillow heeds that for 8 bits only."""
    if kind == COLOUR or not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return bool(image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _ends(kind: str, tiles: Iterable[Image.Image], nodata: float | None) -> Iterator[tuple[float, float]]:
    for tile in tiles:
        values = np.asarray(tile.convert("RGB") if kind == COLOUR else tile, np.float64)
        known = np.isfinite(values) & (np.abs(values) < _LARGEST)
        if nodata is not None:
            known &= values != nodata
        if known.any():
            yield float(values[known].min()), float(values[known].max())


def _default(image: Image.Image, kind: str, own: tuple[float, float]) -> tuple[float, float]:
    """Return the range of a file's format where it has one: modes I and F have none."""
    return _DEFAULTS.get("I;16" if image.mode.startswith("I;16") else kind, own)


def _nodata(image: Image.Image) -> float | None:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    try:
        return float(str(image.tag_v2.get(_NODATA)).strip("\0 "))
    except ValueError:
        return None
