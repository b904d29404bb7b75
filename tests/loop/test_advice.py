"""What the numbers advise, in words."""

import pytest

from backend.loop.advice import outlook_of, verdict, what_comes
from backend.loop.evidence import Hardness, Rate
from backend.store import RoundRow
from model.stopping import Outlook


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            Outlook(100, 0.004, -0.003, 0.011, "stop"),
            "Another 100 labels would add about 0.4 points (\N{MINUS SIGN}0.3 to 1.1). You can stop.",
        ),
        (Outlook(1, 0.01, -0.0001, 0.02, "continue"), "Another 1 label would add about 1.0 point (0.0 to 2.0). Go on."),
        (
            Outlook(1000, 0.001, -0.03, 0.05, "unknown"),
            "Another 1,000 labels would add about 0.1 points (\N{MINUS SIGN}3.0 to 5.0). "
            "Too little is measured to say whether to stop.",
        ),
    ],
)
def test_one_sentence_says_what_comes_and_what_to_do(found: Outlook, words: str) -> None:
    assert what_comes(found) == words


def test_rounds_without_a_model_do_not_count() -> None:
    asked = {"labels": 100, "holdout_size": 50, "holdout_correct": 40, "has_model": True}
    rows = [RoundRow(number=0, **asked), RoundRow(number=1, has_model=False)]
    assert outlook_of(rows, 100) is None
    rows.append(RoundRow(number=2, **asked | {"labels": 200, "holdout_gained": 3, "holdout_lost": 3}))
    assert outlook_of(rows, 100).labels == 100


@pytest.mark.parametrize(
    ("asked", "random", "word"),
    [
        (Rate(40, 100), Rate(10, 100), "harder"),
        (Rate(10, 100), Rate(40, 100), "worse"),
        (Rate(20, 100), Rate(20, 100), "no better"),
        (Rate(20, 100), Rate(2, 10), "unknown"),
    ],
)
def test_verdict_goes_by_the_interval_of_the_difference(asked: Rate, random: Rate, word: str) -> None:
    assert verdict(Hardness(asked, random)) == word


def test_verdict_before_any_answer_is_unknown() -> None:
    assert verdict(None) == "unknown"
