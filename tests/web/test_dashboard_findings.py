"""Which sentence the numbers lead to."""

import pytest

from backend.dashboard.findings import _agreement, _error_rates, _left_out, _quality, _unmeasured
from backend.dashboard.project_page import Entry
from backend.status.measured import measured, metric_of
from backend.status.query_error_rate import ErrorRateDifference, Rate
from backend.store import Answer, RoundRow


@pytest.mark.parametrize(
    ("asked", "random", "tone", "start"),
    [
        (Rate(40, 100, 40), Rate(10, 100, 10), "good", "Asked images are harder"),
        (Rate(10, 100, 10), Rate(40, 100, 40), "warning", "The queue is worse than a random one"),
        (Rate(20, 100, 20), Rate(20, 100, 20), "warning", "The queue is no better than a random one"),
        (Rate(20, 100, 20), Rate(2, 10, 2), "plain", "Too early to tell"),
    ],
)
def test_the_queue_is_judged_by_the_interval_of_the_difference(
    asked: Rate, random: Rate, tone: str, start: str
) -> None:
    (finding,) = _error_rates(ErrorRateDifference(asked, random), metric_of("single_label"), has_model=True)
    assert finding.tone == tone
    assert finding.text.startswith(start)


def entry(size: int, right: float, labels: int = 100, problem: str = "single_label", squares: float | None = None):
    squares = right if squares is None else squares
    row = RoundRow(
        number=0,
        labels=labels,
        problem=problem,
        holdout_size=size,
        holdout_quality=right,
        holdout_squares=squares,
    )
    return Entry(row, measured(row))


def test_a_wide_interval_is_warned_about_and_a_narrow_one_is_not() -> None:
    (narrow,) = _quality(entry(400, 320), 149, "")
    assert narrow.tone == "plain"
    assert narrow.text == (
        "Trained on 100 of the 149 labels, the model is right on 80% of 400 random images that it has not learned "
        "from. For the images without a label that means about 76% to 84% (95% interval)."
    )
    wide, warning = _quality(entry(20, 16), 100, "")
    assert (wide.tone, warning.tone) == ("plain", "warning")
    # Wilson, 16 of 20: 0.584 to 0.919
    assert warning.text == "20 random images say little: differences below 17 points are noise. Each round adds some."


def test_a_share_of_few_random_images_is_given_as_counts_with_what_is_missing() -> None:
    (finding,) = _quality(entry(1, 0, labels=10), 11, " 1 of the 20 is labeled.")
    assert finding.tone == "warning"
    assert "right on 0 of 1 random image" in finding.text
    assert finding.text.endswith("too few to say how good it is. 1 of the 20 is labeled.")
    assert "%" not in finding.text


def test_a_mean_f1_is_no_share_of_images() -> None:
    good, *_ = _quality(entry(40, 30, problem="multi_label", squares=25), 100, "")
    assert "the model has a mean F1 of 0.75 on 40 random images" in good.text
    (few,) = _quality(entry(4, 2.5, problem="multi_label", squares=2), 100, "")
    assert "the model has a mean F1 of 0.62 on 4 random images" in few.text
    assert "%" not in good.text.replace("95% interval", "") + few.text


def test_the_queue_of_sets_of_classes_is_compared_by_f1() -> None:
    # Mean errors of 0.4 and 0.1 are mean F1 of 0.6 and 0.9.
    rates = ErrorRateDifference(Rate(40, 100, 30), Rate(10, 100, 5))
    (finding,) = _error_rates(rates, metric_of("multi_label"), has_model=True)
    assert finding.tone == "good"
    assert "a mean F1 of 0.60 on 100 images that it chose and of 0.90 on 100 random ones" in finding.text
    low, high = rates.interval
    minus = "\N{MINUS SIGN}"
    assert f"a difference of {minus}0.30 ({minus}{high:.2f} to {minus}{low:.2f})" in finding.text


def test_no_holdout_is_a_warning_that_says_what_to_set() -> None:
    (finding,) = _unmeasured(0.0)
    assert finding.tone == "warning"
    assert "holdout_fraction" in finding.text
    assert "holdout_fraction" not in next(iter(_unmeasured(0.1))).text


def test_agreement_tells_the_last_two_and_what_it_means() -> None:
    assert list(_agreement([None])) == []
    (low,) = _agreement([None, 0.5])
    assert (
        "unlabeled images by 0.50, where 1 is always and 0 is no more than by chance: labels still change" in low.text
    )
    (high,) = _agreement([0.5, 0.95])
    assert (
        "by 0.95, 0.50 a round earlier, where 1 is always and 0 is no more than by chance: more labels change"
        in high.text
    )


def test_answers_that_teach_nothing_are_counted() -> None:
    assert list(_left_out({Answer.LABELED: 5})) == []
    (finding,) = _left_out({Answer.SKIPPED: 1200, Answer.TIE: 2})
    assert finding.text == "Answered but not trained on: 1,200 skipped, 2 with a tie between annotators."
