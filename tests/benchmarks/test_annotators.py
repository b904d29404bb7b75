"""What is made of the times that annotators have met with."""

import pytest

from benchmarks.annotators import _turnaround


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (3, 6.0),  # the third answer of the round came at 14, the next queue at 20
        (5, 1.0),  # an answer from the reserve, while the model trained, does not count against it
        (6, None),  # it was completed by others
    ],
)
def test_a_round_turns_around_from_the_answer_that_completes_it(asked: int, seconds: float | None) -> None:
    times = [9.0, 11.0, 12.0, 14.0, 15.0, 19.0, 21.0]
    assert _turnaround(10.0, asked, 20.0, times) == (None if seconds is None else pytest.approx(seconds))
