"""How the pages write values."""

import numpy as np
import pytest

from backend.dashboard.text import TIMES, of_target
from model.data.masks import nothing, pack


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("cat", "cat"),
        (["cat", "dog"], "cat, dog"),
        ([], "nothing"),
        ([["cat", 0, 0, 0.5, 0.5], ["dog", 0, 0, 1, 1, 0.9], ["cat", 0.5, 0, 0.5, 1]], f"2 {TIMES} cat, 1 {TIMES} dog"),
        (pack(np.array([[0, 2], [2, 2]], np.uint8), ("sky", "road")), "road"),
        (nothing(), "nothing"),
        (4, "4"),
    ],
)  # fmt: skip
def test_a_target_is_written_so_that_people_can_read_it(target: object, text: str) -> None:
    assert of_target(target) == text
