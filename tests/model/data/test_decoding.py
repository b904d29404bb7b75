import io
import math

import numpy as np
import pytest
from PIL import Image

from model.data import decoding
from model.data.decoding import MAX_PIXELS, auto_side, decode, measure
from model.data.depth import depth_of, kind_of, scale_of
from model.errors import BadImage, BadInput

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def near(pixel, colour, tolerance=3):
    return np.abs(pixel.astype(int) - np.array(colour)).max() <= tolerance


def noise(width, height, mode="RGB"):
    return Image.effect_noise((width, height), 60).convert(mode)


def test_decode_returns_the_pixels_of_an_rgb_image_of_that_size():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels)), 16), pixels)


def test_decode_repeats_grey_in_three_channels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(grey)), 16), np.repeat(grey[..., None], 3, axis=2))


def test_decode_scales_16_bit_grey_from_its_range():
    deep = Image.fromarray(np.array([[0, 65535], [32768, 257]], np.uint16))
    assert decode(encode(deep), 2)[..., 0].tolist() == [[0, 255], [128, 1]]


def test_decode_reads_16_bit_tiff_of_both_byte_orders():
    deep = np.full((4, 4), 25700, np.uint16)
    for mode in ("I;16", "I;16B"):
        data = deep.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
        assert (decode(encode(Image.frombytes(mode, (4, 4), data), "TIFF"), 4) == 100).all()


def test_decode_stretches_float_images_over_their_own_range():
    assert decode(encode(Image.fromarray(np.array([[-1.0, 3.0]], np.float32)), "TIFF"), 2)[0, :, 0].tolist() == [0, 255]


def test_decode_bilevel_image_is_black_and_white():
    assert decode(encode(Image.fromarray(np.array([[True, False]] * 2))), 2)[0, :, 1].tolist() == [255, 0]


def test_decode_resolves_a_palette():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert near(decode(encode(image), 8)[0, 0], RED)


def test_decode_puts_palette_transparency_over_white():
    image = Image.new("P", (8, 8), 0)
    image.paste(1, (0, 0, 4, 8))
    image.putpalette([0, 0, 0, 255, 0, 0])
    pixels = decode(encode(image, transparency=bytes([0, 255])), 8)
    assert near(pixels[4, 1], RED)
    assert near(pixels[4, 6], WHITE)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_decode_puts_transparency_over_white(mode):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128)).convert(mode)
    assert near(decode(encode(clear), 8)[0, 0], WHITE)
    assert near(decode(encode(half), 8)[0, 0], (127, 127, 127))


def test_decode_converts_cmyk():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert near(decode(encode(image, "JPEG", quality=95), 16)[8, 8], RED, tolerance=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_undoes_exif_rotation(orientation):
    upright = Image.new("RGB", (40, 20), "blue")
    upright.paste(RED, (0, 0, 20, 10))
    upright.paste(GREEN, (20, 0, 40, 10))
    # How each orientation is stored: the inverse of what EXIF asks the viewer to do.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation in stored else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, "PNG", exif=exif)
    assert measure(data) == (40, 20)
    pixels = decode(data, 20)
    assert near(pixels[3, 3], RED)
    assert near(pixels[3, 16], GREEN)
    assert near(pixels[16, 10], BLUE)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of them
def test_damaged_metadata_stop_no_picture():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "camera", 72.0
    data = encode(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)
    start = data.index(b"Exif")
    generator = np.random.default_rng(0)
    for _ in range(1500):
        damaged = bytearray(data)
        damaged[start + generator.integers(6, len(exif.tobytes()))] = generator.integers(256)
        assert measure(bytes(damaged)) in ((40, 20), (20, 40))
        assert near(decode(bytes(damaged), 20)[10, 10], RED)


@pytest.mark.parametrize("exif", [b"II*\0", b"Exif\0\0II*\0", b"XX*\0\x08\0\0\0", b"MM"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_bad_metadata_of_other_formats_stop_no_picture(kind, exif):
    data = encode(Image.new("RGB", (40, 20), "red"), kind, exif=exif)
    assert measure(data) == (40, 20)
    assert near(decode(data, 20)[10, 10], RED, tolerance=6)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (333, 7), (31, 33)])
def test_decode_takes_odd_sizes(size):
    assert decode(encode(noise(*size)), 32).shape == (32, 32, 3)


def test_decode_keeps_both_ends_of_a_wide_image():
    wide = Image.new("RGB", (300, 30), "blue")
    wide.paste(RED, (0, 0, 30, 30))
    wide.paste(GREEN, (270, 0, 300, 30))
    pixels = decode(encode(wide), 30)
    assert near(pixels[15, 0], RED)
    assert near(pixels[15, 29], GREEN)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_decode_takes_the_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert near(decode(data, 16)[8, 8], RED, tolerance=6)


def test_decode_takes_a_large_jpeg_at_an_eighth_of_its_side(monkeypatch):
    data = encode(Image.new("RGB", (4000, 2000), "red"), "JPEG")
    sizes = []
    to_rgb = decoding._to_rgb
    monkeypatch.setattr(decoding, "_to_rgb", lambda image, scale: sizes.append(image.size) or to_rgb(image, scale))
    assert near(decode(data, 32)[0, 0], RED)
    assert sizes == [(500, 250)]


def odd(mode, size):
    """Noise of this mode with values over all of its range, transparency among them."""
    generator = np.random.default_rng(7)
    shape = (size[1], size[0])
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65536, shape, np.uint16))
    if mode in ("I", "F"):
        kind = np.int32 if mode == "I" else np.float32
        return Image.fromarray(generator.integers(-70_000, 90_000, shape).astype(kind))
    bands = [
        Image.fromarray(generator.integers(0, 256, shape, np.uint8))
        for _ in range(len(Image.new(mode, (1, 1)).getbands()))
    ]
    image = bands[0].convert(mode) if len(bands) == 1 else Image.merge(mode, bands)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    return image


@pytest.mark.parametrize("size", [(97, 61), (61, 300), (7, 250), (250, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_squeezed_is_what_pillow_makes_of_the_whole(mode, size, monkeypatch):
    image = odd(mode, size)
    kind = kind_of(image)
    scale = scale_of(image, depth_of(image, kind, [image]), None) if kind else None
    whole = decoding._to_rgb(image, scale)
    expected = np.asarray(whole.resize((5, 5), Image.Resampling.BICUBIC, reducing_gap=decoding.GAP))
    for tile in (1024, 32, 1):
        monkeypatch.setattr(decoding, "TILE", tile)
        np.testing.assert_array_equal(np.asarray(decoding._squeezed(image, (5, 5), scale)), expected)


def test_pillow_itself_stops_above_our_limit_and_says_nothing_below():
    assert Image.open(io.BytesIO(png_header(MAX_PIXELS // 1000, 1000))).size == (MAX_PIXELS // 1000, 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(png_header(MAX_PIXELS // 1000 + 1, 1000)))


def icon(inner):
    """An icon that says 16 x 16 pixels and holds any PNG."""
    import struct

    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def test_decode_refuses_an_icon_whose_header_may_say_anything(monkeypatch):
    data = icon(encode(Image.new("RGB", (300, 300))))
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    for use in (lambda: decode(data, 16), lambda: measure(data)):
        with pytest.raises(BadImage, match="icon"):
            use()


def tiled_tiff(side, tile):
    """A grey TIFF of one tile, which is at least as large as the picture."""
    import struct
    import zlib

    packed = zlib.compress(bytes(tile * tile))
    longs = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 134, 325: len(packed)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in longs.items())
    return b"II*\0" + struct.pack("<IH", 8, len(longs)) + tags + bytes(4) + packed


def test_decode_refuses_a_small_tiff_of_one_enormous_tile():
    assert decode(tiled_tiff(20, 256), 16).max() == 0
    assert decode(tiled_tiff(2064, 2064), 16).max() == 0
    with pytest.raises(BadImage, match="20 x 20 pixels is stored as tiles of 9 megapixels"):
        decode(tiled_tiff(20, 3008), 16)


# Scans of a JPEG


def progressive(size=(64, 64)):
    return encode(noise(*size), "JPEG", progressive=True)


def repeated(data, times):
    """Repeat the last scan of a progressive JPEG: some thirty bytes each, and all of the picture to decode."""
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * times + data[-2:]


def test_decode_takes_progressive_jpegs_whatever_lies_in_and_behind_them():
    plain = progressive()
    scans = b"\xff\xda" * 1000
    decoys = [
        plain + scans,  # a film behind the photograph
        plain[:2] + b"\xff\xe2" + (len(scans) + 2).to_bytes(2) + scans + plain[2:],  # a colour profile
        plain[:2] + b"\xff" * 500 + plain[2:],
        repeated(plain, 20),
    ]
    for data in [plain, *decoys]:
        assert near(decode(data, 16).mean(axis=(0, 1)), decode(plain, 16).mean(axis=(0, 1)))


def hidden(data, times):
    """Hide repeated scans from whoever takes FF02 for a marker with a length; the decoder looks on behind it."""
    scans = repeated(data, times)[len(data) - 2 : -2]
    return data[:-2] + b"\xff\x02\xff\xff" + scans + data[-2:]


@pytest.mark.parametrize("bomb", [repeated, hidden])
def test_decode_refuses_a_jpeg_of_a_thousand_scans(bomb, monkeypatch):
    data = bomb(progressive(), 1000)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    for use in (lambda: decode(data, 16), lambda: measure(data)):
        with pytest.raises(BadImage, match="more than 100 scans"):
            use()


def test_decode_takes_fewer_scans_of_a_larger_jpeg(monkeypatch):
    data = repeated(progressive(), 40)
    monkeypatch.setattr(decoding, "MAX_SCANNED_PIXELS", 60 * 64 * 64)
    decode(data, 16)
    monkeypatch.setattr(decoding, "MAX_SCANNED_PIXELS", 40 * 64 * 64)
    with pytest.raises(BadImage, match="has 50 scans"):
        decode(data, 16)


def test_decode_refuses_a_jpeg_of_endless_segments():
    data = progressive()
    with pytest.raises(BadImage, match="segments"):
        decode(data[:2] + b"\xff\xfe\x00\x02" * 20_000 + data[2:], 16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>login</body></html>", "web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"not an image at all", "not an image"),
        (b"\x00" * 64, "not an image"),
    ],
)
def test_decode_says_what_else_a_file_is(data, reason):
    for use in (lambda: decode(data, 16), lambda: measure(data)):
        with pytest.raises(BadImage, match=reason) as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_decode_refuses_a_truncated_file(kind):
    data = encode(noise(64, 64), kind)
    with pytest.raises(BadImage) as caught:
        decode(data[: len(data) // 2], 32)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of tags that make no sense
def test_decode_never_raises_anything_else_on_damaged_files():
    generator = np.random.default_rng(0)
    originals = [
        encode(noise(24, 24, "L" if kind == "TIFF" else "RGB"), kind) for kind in ("JPEG", "PNG", "GIF", "TIFF")
    ]
    outcomes = set()
    for original in originals:
        for _ in range(40):
            data = np.frombuffer(original, np.uint8).copy()
            data[generator.integers(0, len(data), 8)] = generator.integers(0, 256, 8)
            try:
                decode(data.tobytes(), 16)
                outcomes.add("decoded")
            except BadImage:
                outcomes.add("refused")
    assert outcomes == {"decoded", "refused"}


def png_header(width, height):
    """Return a PNG that claims this size; its pixels are of another."""
    import struct
    import zlib

    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = encode(Image.new("RGB", (1, 1)))
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def test_decode_refuses_a_decompression_bomb_by_its_header():
    with pytest.raises(BadImage, match="megapixels"):
        decode(png_header(MAX_PIXELS // 1000 + 1, 1000), 32)
    with pytest.raises(BadImage, match="megapixels"):
        measure(png_header(60_000, 60_000))


def test_decode_refuses_an_image_without_pixels():
    with pytest.raises(BadImage):
        decode(png_header(0, 0), 32)


def test_decode_refuses_a_side_of_zero():
    with pytest.raises(BadInput):
        decode(encode(noise(8, 8)), 0)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(8, 8)], 16),
        ([(28, 28)], 32),
        ([(32, 32)], 32),
        ([(40, 44)], 32),
        ([(64, 64)], 64),
        ([(300, 200)], 96),
        ([(8, 8), (300, 200), (400, 300)], 96),
    ],
)
def test_auto_side_follows_the_median_shorter_side(sizes, side):
    assert auto_side(sizes, 96) == side
    assert auto_side(sizes, 224) == (224 if side == 96 else side)


def test_auto_side_refuses_an_empty_sample():
    with pytest.raises(BadInput):
        auto_side([], 96)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95}, {"subsampling": 0}])
@pytest.mark.parametrize("missing", [1, 2, 3, 40, 0.05, 0.2])
def test_decode_takes_a_jpeg_short_of_its_last_bytes(options, missing):
    gradient = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    image = Image.fromarray(np.stack([gradient, gradient[::-1], 255 - gradient], axis=2))
    data = encode(Image.blend(image, noise(96, 64), 0.2), "JPEG", **options)
    cut = missing if isinstance(missing, int) else int(missing * len(data))
    short, whole = decode(data[:-cut], 32).astype(int), decode(data, 32).astype(int)
    # Four rows of blocks; resampling reaches two pixels further.
    lost = math.ceil(4 * cut / (len(data) - data.index(b"\xff\xda")))
    assert np.abs(short - whole)[: 30 - 8 * lost].max() <= (32 if options.get("progressive") else 0)


@pytest.mark.parametrize("left", [0.3, 0.5])
def test_decode_refuses_a_jpeg_of_which_much_is_missing(left):
    data = encode(noise(128, 128), "JPEG")
    with pytest.raises(BadImage, match="truncated"):
        decode(data[: int(left * len(data))], 32)


def test_decode_refuses_a_jpeg_that_ends_in_its_header():
    with pytest.raises(BadImage):
        decode(encode(noise(64, 64), "JPEG")[:300], 32)
