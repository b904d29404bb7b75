"""Decode an image file into a square of uint8 RGB."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from model.data.bank import ImageBank
from model.data.depth import Scale, depth_of, kind_of, scale_of
from model.data.letterbox import Letterbox, padded
from model.data.ranges import COLOUR, Depth, Ranges
from model.data.signatures import CONVERT, description
from model.errors import BadImage, BadInput

__all__ = ["Decoded", "ImageBank", "Sides", "auto_side", "decode", "decode_with_depth", "measure"]

MAX_PIXELS = 89_000_000  # pixels; the default of Pillow, which takes twice as many with a warning
SIDES = (16, 32, 64)  # pixels, of small images
# Pillow opens more formats: some start other programs (EPS), some are shown by no browser, and some are decoded in full
# when they are opened, at a size that their header does not tell (ICO, ICNS).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")
# Scans of a JPEG: each takes as long as an image of one scan, and may have only a few bytes. A progressive JPEG has
# about ten.
MAX_SCANS, MAX_SCANNED_PIXELS = 100, 20 * MAX_PIXELS
MAX_SEGMENTS = 10_000  # of a JPEG: metadata are stored in segments of up to 64 KiB
MAX_TILE_PIXELS = 2048 * 2048  # pixels of a tile of a TIFF, if the image itself is smaller
GAP = 3.0  # averaging reduces an image to this multiple of the square; resampling does the rest
TILE = 1024  # pixels; side of the tiles that are converted one by one, which saves copies of the whole image

# Pillow raises an error at twice this value, which is our limit, and warns from this value on.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_EXIF_ORIENTATION = 0x0112
# How an image of each orientation is turned upright (EXIF 2.3, section 4.6.4). Pillow's own function rewrites the
# metadata too, and fails if they are damaged.
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
_ICON, _JPEG = b"\0\0\1\0", b"\xff\xd8\xff"
# The byte after FF is a marker unless it is 00 (a stuffed byte), FF (fill) or a restart within a scan (D0 to D7).
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_IMAGE_END = bytes((0xFF, _END_OF_IMAGE))
# What stands in for the bytes that a JPEG lacks: two patterns, since only rows that come out alike are the image's own.
_PATCHES = (_IMAGE_END, bytes.fromhex("5aa53cc3") * 64 + _IMAGE_END)
_INTACT_ROWS = 1 / 2  # of a JPEG that breaks off; a browser shows it too, with grey below
_SAME = 24  # levels of 255: a later scan of a progressive JPEG changes a row by less
# Tags of a TIFF that raw files of cameras have: they hold a small picture first, and the real one elsewhere.
_NEW_SUBFILE, _SUB_IFDS, _DNG_VERSION, _REDUCED = 254, 330, 50706, 1


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """An image as it goes into a bank, and the range of its values where these have more than 8 bits.

    large: the same at another side, view: letterboxed (``model.data.letterbox``), where they were asked for.
    """

    pixels: npt.NDArray[np.uint8]
    depth: Depth | None = None
    large: npt.NDArray[np.uint8] | None = None
    view: npt.NDArray[np.uint8] | None = None


def decode(data: bytes, side: int, ranges: Ranges | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image file into (side, side, 3) uint8 RGB, upright, transparency over white.

    The whole image is squeezed into the square, as PT4AL does with Caltech-101: a crop could lose an object near the
    edge of a wide photo, and padding would show how an image was rotated. An animation gives its first frame. Colour
    profiles are ignored. ranges: what becomes black and white in images of more than 8 bits.

    Raises:
        BadImage: with the reason in one line.
    """
    return decode_with_depth(data, Sides(side), ranges).pixels


@dataclass(frozen=True)
class Sides:
    """The sides that an image is decoded to, in pixels.

    bank: the square that the image bank has. encoder: that of the encoder. view: of the letterboxed view. None: not
    wanted.
    """

    bank: int
    encoder: int | None = None
    view: int | None = None

    @property
    def largest(self) -> int:
        """The largest of them."""
        return max(self.bank, self.encoder or 0, self.view or 0)


def decode_with_depth(data: bytes, sides: Sides, ranges: Ranges | None = None) -> Decoded:
    """Decode as ``decode`` does, to several sides at once, and return the range of the values too."""
    if sides.bank < 1:
        raise BadInput(f"an image side has to be at least 1 pixel, found {sides.bank}")
    try:
        return _decode(data, sides, ranges)
    except _Damaged as error:
        if not data.startswith(_JPEG):
            raise
        return _without_last_bytes(data, sides, error)


def _decode(data: bytes, sides: Sides, ranges: Ranges | None) -> Decoded:
    with _open(data) as image:
        try:
            kind, size = kind_of(image), image.size
            # JPEG decodes at 1/2, 1/4 or 1/8 for a fraction of the time and memory.
            image.draft(None, (2 * sides.largest, 2 * sides.largest))
            image.load()
            turn = _TURNS.get(_orientation(image))
            depth = None if kind is None else depth_of(image, kind, (tile for _, _, tile in _tiles(image)))
            scale = None if depth is None else scale_of(image, depth, ranges)
            wanted = [(side, side) for side in (sides.bank, sides.encoder) if side is not None]
            if sides.view is not None:
                wanted.append(Letterbox(*size, sides.view).content)
            scaled = [_squeezed(image, length, scale) for length in wanted]
            upright = [np.array(small if turn is None else small.transpose(turn), np.uint8) for small in scaled]
        except Exception as error:  # decoders raise many types on a damaged file
            raise _Damaged(f"the {image.format} image is truncated or damaged: {_one_line(error)}") from error
        large = None if sides.encoder is None else upright[1]
        return Decoded(upright[0], depth, large, None if sides.view is None else padded(upright[-1], sides.view))


class _Damaged(BadImage):
    """The image can be opened, but not decoded to its end."""


def _without_last_bytes(data: bytes, sides: Sides, error: _Damaged) -> Decoded:
    """Return a JPEG whose last bytes are missing, as browsers show it; raise ``error`` where much is missing."""
    try:
        first, second = (_decode(data.rstrip(b"\xff") + patch, sides, None) for patch in _PATCHES)
    except BadImage:
        raise error from None
    apart = np.abs(first.pixels.astype(np.int16) - second.pixels).max(axis=(1, 2)) > _SAME
    intact = int(apart.argmax()) if apart.any() else sides.bank
    if intact < _INTACT_ROWS * sides.bank:
        raise error
    return first


def measure(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels as shown (after EXIF rotation), from the header; raise BadImage."""
    with _open(data) as image:
        width, height = image.size
        lies = _orientation(image) in _ON_SIDE
    return (height, width) if lies else (width, height)


def auto_side(sizes: Sequence[tuple[int, int]], largest: int) -> int:
    """Return the side of a bank from a sample of (width, height) in pixels: the median shorter side, rounded to SIDES.

    Up to a third above one of SIDES it is rounded down: 40 px images lose little at 32, and cost a quarter of 64.
    largest: the side for all that is larger, in pixels.
    """
    if len(sizes) == 0:
        raise BadInput("no image size to choose the side from")
    shorter = float(np.median([min(size) for size in sizes]))
    return next((side for side in SIDES if shorter <= side * 4 / 3), largest)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if there is none or the metadata are damaged."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the image may be fine although its metadata are damaged
        return 1


def _open(data: bytes) -> Image.Image:
    """Open an image without decoding it; raise BadImage for a file that is no image, empty, or too large to decode."""
    if not data:
        raise BadImage("the file is empty: upload it again")
    if data.startswith(_ICON):
        raise BadImage(description(data))
    scans = _count_scans(data) if data.startswith(_JPEG) else 1
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        tile = _tile_pixels(image)
    except Image.DecompressionBombError as error:
        raise BadImage(f"the image has more than {MAX_PIXELS / 1e6:.0f} megapixels: make it smaller") from error
    except UnidentifiedImageError as error:
        raise BadImage(description(data)) from error
    except Exception as error:  # decoders raise many types on a damaged header
        raise BadImage(f"the image's header is damaged: {_one_line(error)}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImage(f"the image is {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        found, most = width * height / 1e6, MAX_PIXELS / 1e6
        raise BadImage(f"the image has {found:.0f} megapixels, more than {most:.0f}: make it smaller")
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise BadImage(f"the JPEG image has {scans} scans, which would take too long to decode at its size")
    if tile > max(width * height, MAX_TILE_PIXELS):
        raise BadImage(f"the image of {width} x {height} pixels is stored as tiles of {tile / 1e6:.0f} megapixels")
    if _is_raw(image):
        raise BadImage(f"the file is a raw file of a camera, which browsers do not show: {CONVERT}")
    return image


def _is_raw(image: Image.Image) -> bool:
    """Tell whether a TIFF is a camera's raw file, of which Pillow would read the small picture that goes first."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    tags = image.tag_v2
    reduced = int(tags.get(_NEW_SUBFILE, 0)) & _REDUCED
    return _DNG_VERSION in tags or bool(reduced and _SUB_IFDS in tags)


def _tile_pixels(image: Image.Image) -> int:
    """Return the pixels of a tile of a TIFF, which is always decoded in full; 0 for other formats."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    tags = image.tag_v2
    return int(tags.get(TiffImagePlugin.TILEWIDTH, 0)) * int(tags.get(TiffImagePlugin.TILELENGTH, 0))


def _count_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG; raise BadImage for more than any camera or program writes.

    Goes from marker to marker as the decoder does, so that thumbnails and data after the image do not count.
    """
    at, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        match = _MARKER.search(data, at)
        marker = _END_OF_IMAGE if match is None else data[match.start() + 1]
        if match is None or marker == _END_OF_IMAGE:
            return scans
        at = match.end()
        if marker >= 0xC0:  # markers below have no length
            at += int.from_bytes(data[at : at + 2])
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise BadImage(f"the JPEG image has more than {MAX_SCANS} scans, which would take too long to decode")
    raise BadImage(f"the JPEG image has more than {MAX_SEGMENTS} segments, which would take too long to read")


def _squeezed(image: Image.Image, size: tuple[int, int], scale: Scale | None = None) -> Image.Image:
    """Return RGB of a size: equal to ``resize(..., reducing_gap=GAP)`` of the whole image, but tile by tile."""
    across, down = (max(int(length / side / GAP), 1) for length, side in zip(image.size, size, strict=True))
    small = Image.new("RGB", (-(-image.width // across), -(-image.height // down)))
    for left, top, tile in _tiles(image, across, down):
        small.paste(_to_rgb(tile, scale).reduce((across, down)), (left // across, top // down))
    box = (0.0, 0.0, image.width / across, image.height / down)
    return small.resize(size, Image.Resampling.BICUBIC, box=box)


def _tiles(image: Image.Image, across: int = 1, down: int = 1) -> Iterator[tuple[int, int, Image.Image]]:
    """Yield left, top and content of each tile; sides are multiples of ``across`` and ``down`` but at the last ones."""
    wide, high = (max(TILE // step, 1) * step for step in (across, down))
    for top, left in product(range(0, image.height, high), range(0, image.width, wide)):
        yield left, top, image.crop((left, top, min(left + wide, image.width), min(top + high, image.height)))


def _to_rgb(image: Image.Image, scale: Scale | None) -> Image.Image:
    if scale is None:
        return _over_white(image)
    return scale.to_rgb(_over_white(image) if scale.kind == COLOUR else image)


def _over_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
