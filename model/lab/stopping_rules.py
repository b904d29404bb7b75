"""Stopping rules, and what each would have saved and cost in a simulation."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import BadInput
from model.evaluation.forecast import GainForecast, RoundResult, forecast_gain
from model.lab.learning_curves import RoundRow

Rule = Callable[[Sequence[RoundResult], GainForecast | None], bool]


def _agrees(kappa: float, rounds: int) -> Rule:
    """Stop after ``rounds`` rounds in a row with agreement ``kappa`` or more (Bloodgood and Vijay-Shanker 2009)."""

    def stop(history: Sequence[RoundResult], _: GainForecast | None) -> bool:
        last = [entry.agreement for entry in history[-rounds:]]
        return len(last) == rounds and all(value is not None and value >= kappa for value in last)

    return stop


def _plateau(rounds: int) -> Rule:
    """Stop when the holdout accuracy is not above that of ``rounds`` rounds before."""

    def share(entry: RoundResult) -> float:
        return entry.quality / entry.size if entry.size else 0.0

    return lambda history, _: len(history) > rounds and share(history[-1]) <= share(history[-1 - rounds])


def _expected(gain: float) -> Rule:
    """Stop when another round is expected to add less than ``gain``."""
    return lambda _, expected: expected is not None and expected.gain < gain


def _surely(gain: float) -> Rule:
    """Stop when the upper end of the 95% interval of another round's gain is less than ``gain``."""
    return lambda _, expected: expected is not None and expected.high < gain


RULES: dict[str, Rule] = {
    "advice": lambda _, expected: expected is not None and expected.advice == "stop",
    "expected gain < 1": _expected(0.01),
    "expected gain < 0.5": _expected(0.005),
    "expected gain < 0.25": _expected(0.0025),
    "gain surely < 2": _surely(0.02),
    "gain surely < 1.5": _surely(0.015),
    "gain surely < 1": _surely(0.01),
    "kappa 0.90 twice": _agrees(0.90, 2),
    "kappa 0.95 twice": _agrees(0.95, 2),
    "kappa 0.97 thrice": _agrees(0.97, 3),
    "holdout no better than 2 rounds ago": _plateau(2),
}


@dataclass(frozen=True)
class RuleResult:
    """How a rule did over ``runs`` runs: how many it ended early, and means over all of them.

    saved: share of the labels that it did not ask. cost: test accuracy lost against asking all. worst: the highest cost
    of a run.
    """

    rule: str
    runs: int
    ended: int
    saved: float
    cost: float
    worst: float


@dataclass(frozen=True)
class ForecastErrors:
    """How the forecasts compare with the real gains of the next models on the test set.

    inside: share of gains within the interval. error: mean of expected minus real gain. absolute: mean of its absolute
    value. width: mean width of the interval.
    """

    rounds: int
    inside: float
    error: float
    absolute: float
    width: float


def runs_of(rows: Sequence[RoundRow]) -> list[list[RoundRow]]:
    """Return the rows of each strategy and seed, by round; raise BadInput if they were run without a holdout."""
    runs: dict[tuple[str, int], list[RoundRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["round"]):
        if "holdout_size" not in row:
            raise BadInput("these results have no holdout: simulate with --holdout 0.1")
        runs[row["strategy"], row["seed"]].append(row)
    return [run for run in runs.values() if len(run) > 1]


def judge(runs: Sequence[Sequence[RoundRow]], rules: dict[str, Rule] | None = None) -> list[RuleResult]:
    """Return what each rule would have saved and cost."""
    return [_result(name, rule, runs) for name, rule in (rules or RULES).items()]


def cover(runs: Sequence[Sequence[RoundRow]]) -> ForecastErrors:
    """Compare every forecast with the real gain of the next round."""
    pairs = []
    for run in runs:
        for number, expected in enumerate(_forecasts(run)[:-1]):
            if expected is not None:
                real = run[number + 1]["accuracy"] - run[number]["accuracy"]
                pairs.append((expected.low, expected.gain, expected.high, real))
    if not pairs:
        raise BadInput("no round of these results can be forecast: there are too few")
    low, gain, high, gained = np.array(pairs).T
    return ForecastErrors(
        rounds=len(pairs),
        inside=float(((low <= gained) & (gained <= high)).mean()),
        error=float((gain - gained).mean()),
        absolute=float(np.abs(gain - gained).mean()),
        width=float((high - low).mean()),
    )


def measured(row: RoundRow) -> RoundResult:
    """Return what a project would know after this round."""
    correct, gained, lost = row["holdout_correct"], row.get("gained"), row.get("lost")
    compared = gained is not None and lost is not None
    return RoundResult(
        row["labels"],
        row["holdout_size"],
        quality=correct,
        squares=correct,
        change=(gained or 0) - (lost or 0) if compared else None,
        change_squares=(gained or 0) + (lost or 0) if compared else None,
        agreement=row.get("agreement"),
    )


def _result(name: str, rule: Rule, runs: Sequence[Sequence[RoundRow]]) -> RuleResult:
    saved, cost = [], []
    for run in runs:
        end = _end(rule, run)
        saved.append(1 - run[end]["labels"] / run[-1]["labels"])
        cost.append(run[-1]["accuracy"] - run[end]["accuracy"])
    ended = sum(share > 0 for share in saved)
    return RuleResult(name, len(runs), ended, float(np.mean(saved)), float(np.mean(cost)), float(np.max(cost)))


def _end(rule: Rule, run: Sequence[RoundRow]) -> int:
    """Return the first round after which the rule stops; the last round if it never does."""
    history = [measured(row) for row in run]
    for number, expected in enumerate(_forecasts(run)):
        if rule(history[: number + 1], expected):
            return number
    return len(run) - 1


def _forecasts(run: Sequence[RoundRow]) -> list[GainForecast | None]:
    history = [measured(row) for row in run]
    more = run[1]["labels"] - run[0]["labels"]
    return [forecast_gain(history[: number + 1], more) for number in range(len(run))]
