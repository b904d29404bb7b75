import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from model.data.decoding import Sides, decode, decode_with_depth
from model.data.ranges import Depth, ranges_of, widened


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(high, low=0, dtype=np.uint16):
    """16 x 16 values from low to high."""
    return np.linspace(low, high, 256).reshape(16, 16).astype(dtype)


def png16(values):
    """Return a PNG of 16 bits a channel, which Pillow does not write: (height, width, 2, 3 or 4 channels)."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_values_of_so_many_bits_fill_all_grey_levels_of_the_pools_range(kind, bits):
    high = 2**bits - 1
    grey = decode(encode(Image.fromarray(ramp(high)), kind), 16, {"integer": (0, high)})[..., 0]
    expected = np.rint(ramp(high).astype(float) / high * 255)
    np.testing.assert_array_equal(grey, expected)
    assert len(np.unique(grey)) == 256


def test_the_range_is_the_pools_and_not_the_pictures_own():
    ranges = {"integer": (0, 4095)}
    dim, bright = (decode(encode(Image.fromarray(ramp(high))), 16, ranges).max() for high in (1024, 4095))
    assert (dim, bright) == (64, 255)


def test_what_lies_outside_the_range_is_black_or_white():
    values = np.array([[0, 1000], [3000, 60000]], np.uint16)
    grey = decode(encode(Image.fromarray(values)), 2, {"integer": (1000, 3000)})[..., 0]
    assert grey.tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize(
    ("array", "kind", "ends"),
    [
        (ramp(4095, 3), "integer", (3, 4095)),
        (ramp(3071, -1024, np.int32), "integer", (-1024, 3071)),  # a computed tomography
        (ramp(1.5, -0.5, np.float32), "float", (-0.5, 1.5)),
    ],
)
def test_a_tiff_tells_the_range_of_its_values(array, kind, ends):
    assert decode_with_depth(encode(Image.fromarray(array), "TIFF"), Sides(8)).depth == Depth(kind, *ends)


@pytest.mark.parametrize("image", [Image.new("L", (8, 8)), Image.new("RGB", (8, 8)), Image.new("1", (8, 8))])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_picture_of_up_to_8_bits_has_no_range(image, kind):
    assert decode_with_depth(encode(image, kind), Sides(8), {"integer": (0, 3), "float": (0, 3)}).depth is None


def test_values_that_are_none_do_not_count():
    values = ramp(1.0, 0.0, np.float32)
    values[0, :3] = np.nan, np.inf, -3.4e38
    values[1, :2] = -9999
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "-9999"
    data = encode(Image.fromarray(values), "TIFF", tiffinfo=tags)
    decoded = decode_with_depth(data, Sides(16))
    assert decoded.depth == Depth("float", pytest.approx(values[0, 3]), 1.0)
    assert decoded.pixels[0, :3, 0].tolist() == [0, 255, 0]
    assert decoded.pixels[-1, -1, 0] == 255


def test_a_picture_without_any_value_is_black():
    assert (decode(encode(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), 4) == 0).all()


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_12_bits_are_stretched_together(channels):
    values = np.zeros((4, 4, channels), np.uint16)
    values[..., 0] = 4095
    values[..., 1] = 2048
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque
    decoded = decode_with_depth(png16(values), Sides(4))
    assert (decoded.depth.kind, decoded.depth.high) == ("colour", 15)
    assert decoded.pixels.max() <= 16  # nearly black by the range of the format
    first = decode(png16(values), 4, {"colour": (0, 15)})[0, 0].tolist()
    assert first == {2: [255, 255, 255], 3: [255, 136, 0], 4: [255, 136, 0]}[channels]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_is_black_and_white_whatever_the_ranges(kind):
    image = Image.fromarray(np.array([[True, False]] * 2))
    assert decode(encode(image, kind), 2, {"integer": (0, 9)})[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_turned(dtype):
    white = {np.bool_: True, np.uint8: 255, np.uint16: 65535}[dtype]
    image = Image.fromarray(np.array([[0, white]] * 2).astype(dtype))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    data = bytearray(encode(image, "TIFF"))
    entry = data.index(struct.pack("<HHI", 262, 3, 1))
    data[entry + 8 : entry + 10] = struct.pack("<H", 0)
    assert decode(bytes(data), 2)[0, :, 0].tolist() == [255, 0]


def test_ranges_hold_all_pictures_of_a_kind():
    depths = [Depth("integer", 5, 900), None, Depth("integer", 0, 800), Depth("float", -1, 1)]
    assert ranges_of(depths) == {"integer": (0, 900), "float": (-1, 1)}


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (None, (0, 1000)),
        (Depth("integer", 0, 1100), (0, 1000)),  # a tenth beyond is clipped
        (Depth("integer", 0, 1101), (0, 1101)),
        (Depth("integer", -101, 5), (-101, 1000)),
    ],
)
def test_ranges_widen_for_pictures_that_go_far_beyond(depth, expected):
    assert widened({"integer": (0, 1000)}, [depth]) == {"integer": expected}


def test_ranges_take_up_a_kind_that_is_new():
    assert widened({}, [Depth("float", 2, 3), Depth("float", 0, 1)]) == {"float": (0, 3)}
