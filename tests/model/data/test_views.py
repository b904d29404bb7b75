"""Views: letterboxed images on disk, with the size of their originals."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.images import noise

from model.data.decoding import Sides, decode_with_depth
from model.data.letterbox import PADDING, Letterbox, padded
from model.data.views import UNKNOWN_SIZE, ViewBank
from model.errors import BankError

ORIENTATION = 0x0112


def encode(image, kind="PNG", **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


@given(width=st.integers(1, 4000), height=st.integers(1, 4000), side=st.integers(1, 700))
def test_an_image_fills_the_longer_side_and_points_go_both_ways(width, height, side):
    box = Letterbox(width, height, side)
    across, down = box.content
    assert max(across, down) == side
    assert min(across, down) >= 1
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.25, 0.75]])
    assert box.to_view(points)[1].tolist() == [across, down]
    assert box.to_shares(box.to_view(points)) == pytest.approx(points)


def test_a_wide_image_lies_at_the_top_of_its_view():
    image = Image.new("RGB", (80, 40), (200, 10, 10))
    view = decode_with_depth(encode(image), Sides(8, view=40)).view
    assert view.shape == (40, 40, 3)
    assert (view[:20] == (200, 10, 10)).all()
    assert (view[20:] == PADDING).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(60, 40), (601, 399)])
def test_a_view_shows_an_image_as_browsers_do(orientation, size):
    """The stored picture has one red corner; where it comes to lie follows from EXIF 2.3, section 4.6.4."""
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 4, size[1] // 4))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    view = decode_with_depth(encode(image, "JPEG", exif=exif, quality=95), Sides(8, 16, 96)).view
    upright = size if orientation < 5 else size[::-1]
    across, down = Letterbox(*upright, 96).content
    y, x = (3 + corner[0] * (down - 7), 3 + corner[1] * (across - 7))
    assert view[y, x, 0] > 200 > 60 > view[y, x, 2]
    assert view[down // 2, across // 2, 2] > 200
    assert (view[down:] == PADDING).all()
    assert (view[:, across:] == PADDING).all()


def test_a_view_is_what_pillow_makes_of_the_whole_image():
    pixels = noise(1, 128)[0][:64]
    (expected,) = [np.asarray(Image.fromarray(pixels).resize((48, 24), Image.Resampling.BICUBIC))]
    assert (decode_with_depth(encode(Image.fromarray(pixels)), Sides(8, view=48)).view == padded(expected, 48)).all()


def test_views_are_written_in_any_order_and_count_when_they_are_there(tmp_path):
    bank = ViewBank.create(tmp_path / "views", 8)
    images = noise(3, 8)
    bank.write(np.array([4, 0, 1]), images, np.array([[640, 480], [10, 20], UNKNOWN_SIZE]))
    again = ViewBank.create(tmp_path / "views", 8)
    assert again.known.tolist() == [True, True, False, False, True]
    assert again.knows(np.array([4, 2, 9])).tolist() == [True, False, False]
    assert (again.gather(np.array([4, 0])) == images[:2]).all()
    assert again.sizes(np.array([0, 4])).tolist() == [[10, 20], [640, 480]]
    assert again.letterboxes(np.array([4, 1])) == [Letterbox(640, 480, 8), Letterbox(8, 8, 8)]


def test_views_that_are_damaged_or_of_another_side_are_refused(tmp_path):
    bank = ViewBank.create(tmp_path / "views", 8)
    bank.write(np.arange(2), noise(2, 8), np.ones((2, 2), np.int64))
    with pytest.raises(BankError, match="8 pixels"):
        ViewBank.create(tmp_path / "views", 16)
    (tmp_path / "views" / "pixels.bin").write_bytes(b"short")
    with pytest.raises(BankError, match="rows of 2 images, found 5 bytes"):
        ViewBank.open(tmp_path / "views")
    with pytest.raises(BankError, match="no views"):
        ViewBank.open(tmp_path / "elsewhere")
