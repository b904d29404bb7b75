"""Qualities as people read them."""

import pytest

from backend.status.measured import Measured, measured, metric_of
from backend.store import RoundRow

ACCURACY, F1 = metric_of("single_label"), metric_of("multi_label")


@pytest.mark.parametrize(
    ("quality", "sentence"),
    [
        (Measured(ACCURACY, 1, 0, 0), "0 of 1 right, too few to say"),
        (Measured(ACCURACY, 9, 9, 9), "9 of 9 right, too few to say"),
        (Measured(ACCURACY, 10, 8, 8), "80% (49% to 94%)"),  # Wilson
        (Measured(F1, 8, 5.04, 4), "0.63 on 8 images, too few to say"),
        (Measured(F1, 1, 1, 1), "1.00 on 1 image, too few to say"),
        (Measured(F1, 10, 8, 8), "0.80 (0.49 to 0.94)"),
    ],
)
def test_a_quality_is_written_with_its_interval_or_the_few_images(quality: Measured, sentence: str) -> None:
    assert quality.sentence == sentence


def test_without_random_images_nothing_is_measured() -> None:
    row = RoundRow(problem="multi_label", holdout_size=None, holdout_quality=None, holdout_squares=None)
    assert (measured(row).mean, measured(row).interval, measured(row).number) == (None, (0.0, 1.0), "not measured")


def test_differences_are_points_or_numbers() -> None:
    assert ACCURACY.difference(-0.046) == "\N{MINUS SIGN}5"
    assert F1.difference(0.046) == "+0.05"
