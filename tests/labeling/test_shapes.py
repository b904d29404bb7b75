"""Regions as geometry: percent, rotation in pixels, and anything else that JSON may hold."""

from math import cos, radians, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.labeling.shapes import KEYPOINT_EXTENT, Drawn, bounds, ellipse_bounds, outline, size_of

SIZE = (400, 200)
percents = st.floats(0, 100)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "1", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=6,
)


def drawn(shape, size=SIZE, **value):
    return Drawn("a", shape, value, size)


@given(x=percents, y=percents, width=percents, height=percents, rotation=st.floats(-720, 720))
def test_a_rotated_rectangle_has_the_corners_that_label_studio_exports(x, y, width, height, rotation):
    """As ``convert_annotation_to_yolo_obb`` of label-studio-sdk computes them, in pixels."""
    found = outline(drawn("rectangle", x=x, y=y, width=width, height=height, rotation=rotation))
    left, top, w, h = x * 4, y * 2, width * 4, height * 2
    c, s = cos(radians(rotation)), sin(radians(rotation))
    expected = [(left, top), (left + w * c, top + w * s), (left + w * c - h * s, top + w * s + h * c)]
    expected.append((left - h * s, top + h * c))
    assert found * SIZE == pytest.approx(np.array(expected), abs=1e-6)


def test_the_box_around_a_quarter_turn_is_the_turned_box():
    turned = drawn("rectangle", x=50, y=10, width=10, height=20, rotation=90)  # 40 x 40 pixels from (200, 20)
    assert bounds(outline(turned)) == pytest.approx((0.4, 0.1, 0.1, 0.2))
    nearly = drawn("rectangle", x=20, y=20, width=10, height=20, rotation=359.9)
    assert bounds(outline(nearly)) == pytest.approx((0.2, 0.2, 0.1, 0.2), abs=1e-3)


def test_the_box_around_an_ellipse_is_exact():
    upright = drawn("ellipse", x=50, y=50, radiusX=10, radiusY=20)
    assert ellipse_bounds(upright) == pytest.approx((0.4, 0.3, 0.2, 0.4))
    turned = drawn("ellipse", x=50, y=50, radiusX=10, radiusY=10, rotation=90)  # 40 x 20 pixels become 20 x 40
    assert ellipse_bounds(turned) == pytest.approx((0.45, 0.3, 0.1, 0.4))
    slanted = drawn("ellipse", x=50, y=50, radiusX=10, radiusY=5, rotation=30)
    assert bounds(outline(slanted)) == pytest.approx(ellipse_bounds(slanted), abs=2e-3)


def test_a_key_point_is_a_square_in_pixels():
    left, top, width, height = bounds(outline(drawn("keypoint", x=50, y=50, width=0.3)))
    assert (width * SIZE[0], height * SIZE[1]) == pytest.approx((KEYPOINT_EXTENT * 200,) * 2)
    assert (left + width / 2, top + height / 2) == pytest.approx((0.5, 0.5))


def test_what_lies_beyond_the_image_is_cut_off():
    assert bounds(outline(drawn("rectangle", x=-10, y=90, width=30, height=30))) == pytest.approx((0, 0.9, 0.2, 0.1))
    assert bounds(outline(drawn("rectangle", x=120, y=10, width=10, height=10)))[2] == 0
    assert bounds(outline(drawn("polygon", points=[[10, 10], [210, 10], [10, 50]]))) == pytest.approx(
        (0.1, 0.1, 0.9, 0.4)
    )


@pytest.mark.parametrize("points", [None, [], [[1, 2], [3, 4]], [[1, 2], [3, 4], [5]], [[1, 2], [3, 4], "56"], "abc"])
def test_a_polygon_of_less_than_three_points_is_none(points):
    assert outline(drawn("polygon", points=points)) is None


@pytest.mark.parametrize("wrong", [None, "10", True, float("nan"), float("inf"), 10**400, 1e9, [1], {}])
@pytest.mark.parametrize("name", ["x", "width", "rotation"])
def test_a_rectangle_with_other_numbers_is_none(name, wrong):
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0, name: wrong}
    if name == "rotation" and wrong == 1e9:
        return  # many turns
    assert outline(drawn("rectangle", **value)) is None


def test_a_size_below_zero_is_none():
    assert outline(drawn("rectangle", x=1, y=1, width=-5, height=5)) is None


@given(shape=st.sampled_from(["rectangle", "ellipse", "polygon", "keypoint", "brush"]), value=st.dictionaries(
    st.sampled_from(["x", "y", "width", "height", "radiusX", "radiusY", "rotation", "points"]), JSON))  # fmt: skip
def test_any_value_is_points_within_reach_or_none(shape, value):
    found = outline(Drawn("a", shape, value))
    assert found is None or (found.ndim == 2 and found.shape[1] == 2 and np.isfinite(found).all())
    if found is not None:
        assert all(0 <= share <= 1 for share in bounds(found))


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (640, 480, (640, 480)),
        (640.0, 480, (640, 480)),
        (0, 4, None),
        (None, 4, None),
        ("640", 480, None),
        (True, 4, None),
    ],
)
def test_the_size_of_a_region_is_known_or_not(width, height, size):
    assert size_of({"original_width": width, "original_height": height}) == size
    assert Drawn("a", "brush", {}, size).aspect == pytest.approx(size[0] / size[1] if size else 1)
