"""What the numbers advise, as sentences."""

import pytest

from backend.status.forecast_text import NextRound, forecast_of, next_round_text, query_verdict
from backend.status.measured import metric_of
from backend.status.query_error_rate import ErrorRateDifference, Rate
from backend.store import RoundRow
from model.evaluation.forecast import GainForecast


@pytest.mark.parametrize(
    ("found", "ahead", "words"),
    [
        (
            GainForecast(100, 0.004, -0.003, 0.011, "stop"),
            NextRound(110, 10, 50),
            "Another round (110 answers, 100 of them to learn from) would add about 0.4 points "
            "(\N{MINUS SIGN}0.3 to 1.1). You can stop.",
        ),
        (
            GainForecast(1, 0.01, -0.0001, 0.02, "continue"),
            NextRound(1, 0, 0),
            "Another round (1 answer) would add about 1.0 point (0.0 to 2.0). Go on.",
        ),
        (
            GainForecast(1000, 0.001, -0.03, 0.05, "unknown"),
            NextRound(1004, 4, 12),
            "Another round (1,004 answers, 1,000 of them to learn from) would add about 0.1 points "
            "(\N{MINUS SIGN}3.0 to 5.0). Too little is measured to say whether to stop: 12 of the 20 random images "
            "that an advice needs are labeled; about 2 more rounds.",
        ),
        (
            GainForecast(10, 0.001, -0.03, 0.05, "unknown"),
            NextRound(11, 1, 20),
            "Another round (11 answers, 10 of them to learn from) would add about 0.1 points "
            "(\N{MINUS SIGN}3.0 to 5.0). Too little is measured to say whether to stop: the interval has to end below "
            "2 points.",
        ),
    ],
)
def test_one_sentence_says_next_round_text_and_what_to_do(found: GainForecast, ahead: NextRound, words: str) -> None:
    assert next_round_text(found, ahead, metric_of("single_label")) == words


@pytest.mark.parametrize(
    ("random", "measured", "words"),
    [
        (4, 19, "19 of the 20 random images that an advice needs are labeled; about 1 more round"),
        (0, 3, "3 of the 20 random images that an advice needs are labeled"),
        (1, 20, None),
    ],
)
def test_what_an_advice_misses_is_counted_in_rounds(random: int, measured: int, words: str | None) -> None:
    assert NextRound(40, random, measured).missing == words


def test_a_gain_in_f1_is_no_percentage() -> None:
    forecast = GainForecast(10, 0.0123, -0.0001, 0.03, "unknown")
    assert next_round_text(forecast, NextRound(10, 1, 20), metric_of("multi_label")) == (
        "Another round (10 answers) would add about 0.012 to the F1 (0.000 to 0.030). "
        "Too little is measured to say whether to stop: the interval has to end below 0.02."
    )


def test_rounds_without_a_model_do_not_count() -> None:
    asked = {"labels": 100, "holdout_size": 50, "holdout_quality": 40, "holdout_squares": 40, "has_model": True}
    rows = [RoundRow(number=0, **asked), RoundRow(number=1, has_model=False)]
    assert forecast_of(rows, 100) is None
    rows.append(RoundRow(number=2, **asked | {"labels": 200, "holdout_change": 0, "holdout_change_squares": 6}))
    assert forecast_of(rows, 100).labels == 100


@pytest.mark.parametrize(
    ("asked", "random", "word"),
    [
        (Rate(40, 100, 40), Rate(10, 100, 10), "harder"),
        (Rate(10, 100, 10), Rate(40, 100, 40), "worse"),
        (Rate(20, 100, 20), Rate(20, 100, 20), "no better"),
        (Rate(20, 100, 20), Rate(2, 10, 2), "unknown"),
    ],
)
def test_verdict_goes_by_the_interval_of_the_difference(asked: Rate, random: Rate, word: str) -> None:
    assert query_verdict(ErrorRateDifference(asked, random)) == word


def test_verdict_before_any_answer_is_unknown() -> None:
    assert query_verdict(None) == "unknown"
