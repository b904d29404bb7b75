"""Which sentence the numbers lead to."""

import pytest

from backend.dashboard.findings import _accuracy, _agreement, _error_rates, _left_out, _one_class
from backend.status.query_error_rate import ErrorRateDifference, Rate
from backend.store import Answer, AskRole
from backend.store.dashboard_queries import AskedTarget


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
    (finding,) = _error_rates(ErrorRateDifference(asked, random), has_model=True)
    assert finding.tone == tone
    assert finding.text.startswith(start)


def entry(**given: object) -> dict[str, object]:
    values = {
        "labels": 100,
        "holdout_size": 400,
        "holdout_correct": 320,
        "quality": 0.8,
        "interval": [0.76, 0.84],
        "agreement": None,
    }
    return {**values, **given}


def test_a_wide_interval_is_warned_about_and_a_narrow_one_is_not() -> None:
    (narrow,) = _accuracy([entry()], 149, 0.1, "")
    assert narrow.tone == "plain"
    assert narrow.text.startswith("Trained on 100 of the 149 labels, the model is right on 80% of 400 random images")
    assert "For the images without a label that means about 76% to 84%" in narrow.text
    wide = list(_accuracy([entry(holdout_size=20, interval=[0.6, 0.92])], 100, 0.1, ""))
    assert [finding.tone for finding in wide] == ["plain", "warning"]
    assert wide[0].text.startswith("Trained on 100 labels, the model")
    assert wide[1].text == "20 random images say little: differences below 16 points are noise. Each round adds some."


def test_a_share_of_few_random_images_is_given_as_counts_with_what_is_missing() -> None:
    few = entry(labels=10, holdout_size=1, holdout_correct=0, quality=0.0, interval=[0.0, 0.79])
    (finding,) = _accuracy([few], 11, 0.1, " 1 of the 20 is labeled.")
    assert finding.tone == "warning"
    assert finding.text == (
        "Trained on 10 of the 11 labels, the model is right on 0 of 1 random image that it has not learned from: "
        "too few to say how good it is. 1 of the 20 is labeled."
    )
    assert "%" not in finding.text


def test_the_mean_quality_of_several_classes_an_image_is_no_count() -> None:
    (finding,) = _accuracy([entry(holdout_correct=None, quality=0.8123)], 100, 0.1, "")
    assert "the model has a mean quality of 81% on 400 random images" in finding.text
    few = entry(holdout_size=3, holdout_correct=None, quality=0.5, interval=[0.2, 0.8])
    (finding,) = _accuracy([few], 100, 0.1, "")
    assert "has a mean quality of 50% on 3 random images" in finding.text


def test_labels_of_one_class_alone_teach_nothing() -> None:
    rows = [AskedTarget(0, AskRole.QUERY, "round", 5), AskedTarget(0, AskRole.HOLDOUT, "round", 1)]
    (finding,) = _one_class(rows, labeled=6)
    assert (finding.tone, finding.text) == ("warning", "All labels are 'round': nothing to tell apart yet.")
    assert list(_one_class(rows, labeled=7)) == []  # one that nobody asked for may be of another class
    assert list(_one_class([*rows, AskedTarget(1, AskRole.QUERY, "square", 1)], labeled=7)) == []
    assert list(_one_class([], labeled=0)) == []
    several = [AskedTarget(0, AskRole.QUERY, ["a", "b"], 5)]
    assert [finding.text for finding in _one_class(several, 5)] == [
        "All labels are 'a', 'b': nothing to tell apart yet."
    ]
    assert list(_one_class([*several, AskedTarget(0, AskRole.QUERY, [], 1)], 6)) == []


def test_no_holdout_is_a_warning_that_says_what_to_set() -> None:
    (finding,) = _accuracy([entry(holdout_size=0)], 100, 0.0, "")
    assert finding.tone == "warning"
    assert "holdout_fraction" in finding.text
    assert "holdout_fraction" not in next(iter(_accuracy([entry(holdout_size=0)], 100, 0.1, ""))).text


def test_agreement_tells_the_last_two_and_what_it_means() -> None:
    assert list(_agreement([entry()])) == []
    (low,) = _agreement([entry(), entry(agreement=0.5)])
    assert (
        "unlabeled images by 0.50, where 1 is always and 0 is no more than by chance: labels still change" in low.text
    )
    (high,) = _agreement([entry(agreement=0.5), entry(agreement=0.95)])
    assert (
        "by 0.95, 0.50 a round earlier, where 1 is always and 0 is no more than by chance: more labels change"
        in high.text
    )


def test_answers_that_teach_nothing_are_counted() -> None:
    assert list(_left_out({Answer.LABELED: 5})) == []
    (finding,) = _left_out({Answer.SKIPPED: 1200, Answer.TIE: 2})
    assert finding.text == "Answered but not trained on: 1,200 skipped, 2 with a tie between annotators."
