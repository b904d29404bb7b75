"""Intersection over union from counts of pixels, against numbers by hand."""

import numpy as np
import pytest

from model.data.masks import IGNORED
from model.errors import BadInput
from model.evaluation.pixels import class_iou, count_pixels, interval, mean_iou, weighted_iou

TRUTH = np.array([[1, 1, 0, 0], [1, 2, 2, IGNORED]], np.uint8)
GUESS = np.array([[1, 0, 0, 2], [1, 2, 1, 2]], np.uint8)


def test_counts_are_pixels_by_true_and_predicted_class() -> None:
    assert count_pixels(GUESS, TRUTH, 2).tolist() == [[1, 0, 1], [1, 2, 0], [0, 1, 1]]


def test_iou_is_hits_over_union_and_the_background_has_none() -> None:
    counts = count_pixels(GUESS, TRUTH, 3)
    assert class_iou(counts)[:2].tolist() == [2 / 4, 1 / 3]
    assert np.isnan(class_iou(counts)[2])  # occurs in neither
    assert mean_iou(counts) == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert weighted_iou(counts) == pytest.approx((3 * 2 / 4 + 2 * 1 / 3) / 5)


def test_nothing_anywhere_is_right() -> None:
    assert mean_iou(count_pixels(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 2)) == 1
    assert mean_iou(count_pixels(np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 2)) == 0


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(BadInput, match="cannot be compared"):
        count_pixels(GUESS, TRUTH[:1], 2)


def test_the_interval_holds_the_mean_of_the_population_as_often_as_it_says() -> None:
    """200 samples of 25 images: right with a probability that varies from image to image."""
    generator, hits = np.random.default_rng(0), 0
    truth = np.ones(400, np.uint8)

    def draw(n: int) -> np.ndarray:
        shares = generator.beta(4, 2, n)
        return np.stack([count_pixels((generator.random(400) < share).astype(np.uint8), truth, 1) for share in shares])

    wanted = mean_iou(draw(4000).sum(axis=0))
    for trial in range(200):
        low, high = interval(draw(25), seed=trial)
        hits += low <= wanted <= high
    assert 0.88 <= hits / 200 <= 0.99
    assert interval([]) == (0.0, 1.0)
