"""Class masks as JSON values."""

import json

import numpy as np
import pytest

from model.data.masks import (
    BACKGROUND,
    IGNORED,
    MOST,
    enlarged,
    is_mask,
    nothing,
    pack,
    resized,
    scaled_down,
    size_of,
    unpack,
)

CLASSES = ["sky", "road", "car"]
PIXELS = np.array([[0, 0, 3], [1, IGNORED, 3]], np.uint8)


def test_a_mask_comes_back_and_names_the_classes_that_it_has() -> None:
    mask = pack(PIXELS, CLASSES)
    assert mask["classes"] == ["sky", "car"]
    assert json.loads(json.dumps(mask)) == mask
    assert pack(PIXELS, CLASSES) == mask
    assert size_of(mask) == (3, 2)
    assert np.array_equal(unpack(mask, CLASSES), PIXELS)


def test_classes_of_another_order_are_the_same_and_those_that_are_gone_are_ignored() -> None:
    mask = pack(PIXELS, CLASSES)
    assert unpack(mask, ["car", "tree", "sky"]).tolist() == [[0, 0, 1], [3, IGNORED, 1]]
    assert unpack(mask, ["sky"]).tolist() == [[0, 0, IGNORED], [1, IGNORED, IGNORED]]


def test_an_image_without_anything_is_background_of_any_size() -> None:
    assert unpack(nothing(), CLASSES, (4, 2)).tolist() == [[BACKGROUND] * 4] * 2
    assert size_of(nothing()) is None


def test_a_random_mask_of_254_classes_comes_back() -> None:
    names = [str(number) for number in range(254)]
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    assert np.array_equal(unpack(pack(pixels, names), names), pixels)


def test_large_masks_are_scaled_down_and_the_aspect_kept() -> None:
    pixels = np.zeros((3000, 4096), np.uint8)
    pixels[:, 2048:] = 2
    mask = pack(pixels, CLASSES)
    assert size_of(mask) == (MOST, 1500)
    assert (unpack(mask, CLASSES) == 2).mean() == 0.5
    assert scaled_down(pixels[:10, :10], MOST).shape == (10, 10)


def test_resized_takes_the_nearest_pixel() -> None:
    assert resized(PIXELS, (6, 4)).tolist() == PIXELS.repeat(2, 0).repeat(2, 1).tolist()
    assert resized(resized(PIXELS, (9, 6)), (3, 2)).tolist() == PIXELS.tolist()


def test_enlarged_keeps_classes_and_areas_and_smooths_the_edge() -> None:
    rows, columns = np.mgrid[:40, :40]
    disc = np.where((rows - 20) ** 2 + (columns - 20) ** 2 < 150, 3, 1).astype(np.uint8)
    rows, columns = np.mgrid[:160, :160]
    truth = np.where(((rows + 0.5) / 4 - 20.5) ** 2 + ((columns + 0.5) / 4 - 20.5) ** 2 < 150, 3, 1)
    smooth, rough = enlarged(disc, (160, 160)), resized(disc, (160, 160))
    assert set(np.unique(smooth)) == {1, 3}
    assert (smooth != truth).sum() < 0.9 * (rough != truth).sum()
    assert enlarged(np.full((2, 2), 7, np.uint8), (5, 4)).tolist() == [[7] * 5] * 4


@pytest.mark.parametrize(
    "value",
    [None, 3, "sky", [], {}, {"classes": "sky"}, {"classes": ["sky"]}, {"classes": [3], "png": ""},
     {"classes": ["sky", "sky"], "png": ""}, {"classes": [], "png": 3}],
)  # fmt: skip
def test_other_values_are_no_masks(value) -> None:
    assert not is_mask(value)


def test_a_damaged_picture_is_said_to_be_one() -> None:
    with pytest.raises(ValueError, match="damaged picture"):
        unpack({"classes": ["sky"], "png": "bm8="}, CLASSES)
