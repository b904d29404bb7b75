"""From the bytes of an image file to a square of uint8 RGB that a network takes."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from model.bank import ImageBank
from model.errors import BadImage, BadInput

__all__ = ["ImageBank", "auto_side", "decode", "measure"]

MAX_PIXELS = 89_000_000  # pixels; a hair below Pillow's own threshold, so that whatever makes it warn is refused
SIDES = (16, 32, 64, 96)  # pixels
# Pillow opens more than these, among them formats that start other programs (EPS) or that no browser shows.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA")

_EXIF_ORIENTATION = 0x0112
# How a picture of each orientation is turned upright (EXIF 2.3, section 4.6.4). Pillow's own function for it writes
# the metadata anew as well, and fails on damaged ones.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_SIDE = (5, 6, 7, 8)
_MARKUP = (b"<svg", b"<?xml", b"<!doctype", b"<html", b"<head", b"<body")


def decode(data: bytes, side: int) -> npt.NDArray[np.uint8]:
    """Decode an image file into (side, side, 3) uint8 RGB, upright, transparency over white.

    The whole picture is squeezed into the square, as the paper does with Caltech-101: an object near the edge of a
    wide photo stays, a bar of padding would give a rotated image away, and so would nothing else. An animation gives
    its first frame. Colour profiles are ignored. Raises BadImage with the reason in one line.
    """
    if side < 1:
        raise BadInput(f"an image side has to be at least 1 pixel, found {side}")
    with _open(data) as image:
        try:
            # JPEG decodes at 1/2, 1/4 or 1/8 for a fraction of the time and memory.
            image.draft(None, (2 * side, 2 * side))
            image.load()
            turn = _TURNS.get(_orientation(image))
            upright = image if turn is None else image.transpose(turn)
            square = _to_rgb(upright).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
        except Exception as error:  # whatever a decoder makes of a damaged file: the file is to blame
            raise BadImage(f"the {image.format} image is truncated or damaged: {_one_line(error)}") from error
        return np.array(square, dtype=np.uint8)


def measure(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels as shown (after EXIF rotation), from the file's header. Raises BadImage."""
    with _open(data) as image:
        width, height = image.size
        lies = _orientation(image) in _ON_SIDE
    return (height, width) if lies else (width, height)


def auto_side(sizes: Sequence[tuple[int, int]]) -> int:
    """Choose the side of a bank from a sample of (width, height) in pixels: the median shorter side, rounded to SIDES.

    A third beyond a step is still rounded down: 40 px images lose little at 32, and cost a quarter of 64.
    """
    if len(sizes) == 0:
        raise BadInput("no image size to choose the side from")
    shorter = float(np.median([min(size) for size in sizes]))
    return next((side for side in SIDES if shorter <= side * 4 / 3), SIDES[-1])


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, upright, where there is none or the metadata are damaged."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged metadata say nothing about the picture
        return 1


def _open(data: bytes) -> Image.Image:
    """Open without decoding; refuse what is no image, empty, or too large to decode."""
    if not data:
        raise BadImage("the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"the image has more than {MAX_PIXELS / 1e6:.0f} megapixels") from error
    except UnidentifiedImageError as error:
        raise BadImage(_what_it_is(data)) from error
    except Exception as error:  # whatever a decoder makes of it
        raise BadImage(f"the image's header is damaged: {_one_line(error)}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImage(f"the image is {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise BadImage(f"the image has {width * height / 1e6:.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}")
    return image


def _what_it_is(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "the file is an SVG drawing, not a pixel image"
    if start.startswith(_MARKUP):
        return "the file is a web page, not an image (a login or error page of the image's server?)"
    if start.startswith(b"%pdf"):
        return "the file is a PDF document, not an image"
    return "the file is not an image in a known format"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray(_scaled(np.asarray(image), 0.0, 65535.0)).convert("RGB")
    if image.mode in ("I", "F"):  # no agreed range: that of the picture itself
        values = np.nan_to_num(np.asarray(image, np.float64))
        return Image.fromarray(_scaled(values, float(values.min()), float(values.max()))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _scaled(values: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Map [low, high] to 0..255, rounding to the nearest."""
    unit = (values.astype(np.float64) - low) / max(high - low, 1e-12)
    return np.rint(unit * 255).astype(np.uint8)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
