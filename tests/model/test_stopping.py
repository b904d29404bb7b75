import json
from dataclasses import replace

import numpy as np
import pytest

from model.errors import BadInput
from model.evaluation.forecast import RoundResult, forecast_gain
from model.lab.learning_curves import RoundRow
from model.lab.stopping import main
from model.lab.stopping_rules import cover, judge, runs_of


def counted(
    labels: int, size: int, correct: int, gained: int | None = None, lost: int | None = None, kappa: float | None = None
) -> RoundResult:
    """A model that is right or wrong about each image."""
    if gained is None or lost is None:
        return RoundResult(labels, size, correct, correct, agreement=kappa)
    return RoundResult(labels, size, correct, correct, gained - lost, gained + lost, kappa)


def learner(exponent: float, start: float, rounds: int, holdout: int) -> list[RoundResult]:
    """A curve that the power law describes exactly: 100 labels a round, the error ``start`` after the first."""
    history, before = [], 0
    for number in range(1, rounds + 1):
        correct = round(holdout * (1 - start * number**-exponent))
        gained = correct - before if history else None
        lost = 0 if history else None
        history.append(counted(100 * number, holdout, correct, gained, lost, None))
        before = correct
    return history


def test_the_forecast_goes_on_with_the_curve() -> None:
    history = learner(0.5, 0.4, 6, holdout=5000)
    found = forecast_gain(history, 100)
    assert found.gain == pytest.approx(0.4 * (6**-0.5 - 7**-0.5), abs=0.004)
    assert found.low < found.gain < found.high
    assert found.advice == "continue"


def test_a_flat_curve_says_stop() -> None:
    flat = [counted(100 * n, 400, 380, 2, 2, 0.99) for n in range(3, 7)]
    found = forecast_gain(flat, 100)
    assert found.advice == "stop"
    assert found.gain < 0.005
    assert found.low < 0 < found.high < 0.02


def test_a_small_holdout_never_says_stop() -> None:
    flat = [counted(100 * n, 400, 380, 2, 2, 0.99) for n in range(3, 7)]
    assert (
        forecast_gain(
            [replace(one, size=19, quality=19, squares=19, change=0, change_squares=0) for one in flat], 100
        ).advice
        != "stop"
    )


def test_pairs_on_the_same_images_tell_more_than_two_levels() -> None:
    pairs = [counted(200, 200, 160), counted(300, 200, 162, 3, 1)]
    levels = [counted(200, 200, 160), counted(300, 200, 162)]
    narrow, wide = (forecast_gain(history, 100) for history in (pairs, levels))
    assert narrow.high - narrow.low < wide.high - wide.low


def test_models_that_agree_leave_little_to_gain() -> None:
    apart = [counted(200, 20, 16), counted(300, 20, 17, 2, 1, 0.5)]
    alike = [counted(200, 20, 16), counted(300, 20, 17, 2, 1, 0.98)]
    assert forecast_gain(alike, 100).gain < forecast_gain(apart, 100).gain


def test_more_labels_add_more() -> None:
    history = learner(0.4, 0.3, 4, holdout=500)
    gains = [forecast_gain(history, labels).gain for labels in (10, 100, 400)]
    assert gains == sorted(gains)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [counted(100, 10, 8)],
        [counted(100, 0, 0), counted(200, 0, 0)],
        [counted(0, 5, 1), counted(100, 10, 8)],
        [counted(100, 10, 8), counted(100, 10, 8, 0, 0)],  # no label came between them
    ],
)
def test_without_two_models_to_compare_nothing_is_said(history: list[RoundResult]) -> None:
    assert forecast_gain(history, 100) is None


def test_nothing_is_said_when_nothing_is_left_to_ask() -> None:
    assert forecast_gain(learner(0.4, 0.3, 4, holdout=500), 0) is None


@pytest.mark.parametrize("wrong", [(100, 10, 11), (100, 10, -1), (-1, 10, 5), (100, 10, 5, 6, 5)])
def test_counts_that_do_not_fit_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(BadInput):
        counted(*wrong)


def test_the_interval_holds_what_it_promises_on_curves_of_its_kind() -> None:
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(150):
        exponent, start = generator.uniform(0.2, 0.8), generator.uniform(0.1, 0.6)
        accuracy = 1 - start * np.arange(1, 8.0) ** -exponent
        right = generator.random((7, 300)) < accuracy[:, None]
        history = [counted(100, 300, int(right[0].sum()))]
        for number in range(1, 6):
            now, last = right[number], right[number - 1]
            history.append(
                counted(100 * number + 100, 300, int(now.sum()), int((now & ~last).sum()), int((last & ~now).sum()))
            )
        found = forecast_gain(history, 100)
        inside.append(found.low <= accuracy[6] - accuracy[5] <= found.high)
    assert np.mean(inside) >= 0.93


# What the forecast said when it still counted right and wrong images (gain, low, high), from the code before qualities.
COUNTED = [
    (
        [counted(200, 200, 160), counted(300, 200, 162, 3, 1)],
        (0.00629644903047334, -0.011890159507189139, 0.02529844660238291),
    ),
    (
        [counted(200, 200, 160), counted(300, 200, 162)],
        (0.010227549052892878, -0.01104352479771573, 0.038857755137413796),
    ),
    (
        [counted(200, 20, 16), counted(300, 20, 17, 2, 1, 0.98)],
        (0.003920473149496928, -0.01073172383964505, 0.019886201156295788),
    ),
]


@pytest.mark.parametrize(("history", "expected"), COUNTED)
def test_the_forecast_from_right_and_wrong_answers_is_that_of_counts(history, expected) -> None:
    result = forecast_gain(history, 100)
    assert (result.gain, result.low, result.high) == pytest.approx(expected, rel=1e-9)


def test_qualities_between_right_and_wrong_tell_more_than_right_and_wrong() -> None:
    sharp = [RoundResult(200, 50, 40, 40), RoundResult(300, 50, 41, 41, 1, 3)]
    alike = [RoundResult(200, 50, 40, 33), RoundResult(300, 50, 41, 34.5, 1, 0.5)]
    wide, narrow = (forecast_gain(history, 100) for history in (sharp, alike))
    assert narrow.high - narrow.low < wide.high - wide.low


@pytest.mark.parametrize(
    "wrong",
    [
        (100, 10, 5, 6),  # squares of qualities from 0 to 1 are not larger than the qualities
        (100, 10, 5, 2.4),  # nor is their mean smaller than the square of the mean
        (100, 10, 5, 5, 1, None),
        (100, 10, 5, 5, 5, 2),
    ],
)
def test_sums_that_no_qualities_have_are_refused(wrong) -> None:
    with pytest.raises(BadInput):
        RoundResult(*wrong)


def rows(accuracies: list[float], kappa: float) -> list[RoundRow]:
    return [
        RoundRow(
            **{"strategy": "default", "seed": 0, "round": number, "labels": 100 * (number + 1), "accuracy": accuracy},
            **{"holdout_size": 100, "holdout_correct": round(100 * accuracy), "agreement": kappa},
            **({"gained": 1, "lost": 1} if number else {}),
        )
        for number, accuracy in enumerate(accuracies)
    ]


def test_rules_are_judged_by_labels_saved_and_accuracy_given_up() -> None:
    runs = runs_of(rows([0.5, 0.8, 0.9, 0.95], kappa=0.96))
    rules = {
        "never": lambda history, seen: False,
        "third": lambda history, seen: len(history) == 3,
        "sees": lambda history, seen: seen is not None,
    }
    never, third, sees = judge(runs, rules)
    assert (never.ended, never.saved, never.cost) == (0, 0.0, 0.0)
    assert (third.ended, third.saved, third.cost) == (1, pytest.approx(0.25), pytest.approx(0.05))
    assert sees.cost == pytest.approx(0.15)  # two models can be compared after the second round


def test_forecasts_are_compared_with_what_came() -> None:
    found = cover(runs_of(rows([0.9, 0.9, 0.9, 0.9], kappa=0.99)))
    assert (found.rounds, found.inside) == (2, 1.0)
    assert 0 <= found.error == found.absolute < 0.01


def test_results_without_a_holdout_are_refused() -> None:
    with pytest.raises(BadInput, match="--holdout"):
        runs_of([RoundRow(strategy="a", seed=0, round=0, labels=1, accuracy=0.5)])


def test_command_prints_a_table_of_rules(tmp_path, capsys) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows([0.5, 0.8, 0.9, 0.9], kappa=0.96)))
    assert main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "| kappa 0.95 twice | 1 of 1 | 50% | +10.0 points | +10.0 points |" in out
    assert "Forecast of the next round" in out
    assert main([str(tmp_path / "none.json")]) == 2
    assert "no results file" in capsys.readouterr().err
