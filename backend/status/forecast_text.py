"""What a project's numbers advise: whether another round is worth its labels, and whether choosing images helps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from backend.status.measured import Metric
from backend.status.query_error_rate import ErrorRateDifference
from backend.store import RoundRow
from model.evaluation.forecast import MIN_HOLDOUT, SURE, GainForecast, RoundResult, forecast_gain

ENOUGH_RANDOM = 50  # random images after which "still no sign" deserves a warning

Verdict = Literal["harder", "no better", "worse", "unknown"]


@dataclass(frozen=True)
class NextRound:
    """What another round costs and measures.

    answers: people's, random images included. random: images that it adds to the holdout. measured: the holdout now.
    """

    answers: int
    random: int
    measured: int

    @property
    def missing(self) -> str | None:
        """How many random images an advice to stop still needs, and in how many rounds they come; None when none."""
        if self.measured >= MIN_HOLDOUT:
            return None
        have = f"{self.measured} of the {MIN_HOLDOUT} random images that an advice needs are labeled"
        if not self.random:
            return have
        rounds = -(-(MIN_HOLDOUT - self.measured) // self.random)
        return f"{have}; about {rounds:,} more {'round' if rounds == 1 else 'rounds'}"


def forecast_of(rounds: Iterable[RoundRow], labels: int) -> GainForecast | None:
    """Return what ``labels`` more labels would add to the newest model; None while nothing can be said.

    rounds: their models predict the same problem.
    """
    return forecast_gain([_measured(row) for row in rounds if row.has_model], labels)


def next_round_text(forecast: GainForecast, ahead: NextRound, metric: Metric) -> str:
    """Return what another round would add, and what follows from it, as two sentences."""
    cost = f"{ahead.answers:,} {'answer' if ahead.answers == 1 else 'answers'}"
    if ahead.answers > forecast.labels:
        cost += f", {forecast.labels:,} of them to learn from"
    adds = f"Another round ({cost}) would add about {_gain(forecast, metric)}."
    limit = f"{100 * SURE:.0f} points" if metric.counted else f"{SURE:g}"
    reason = ahead.missing or f"the interval has to end below {limit}"
    advice = {
        "continue": "Go on.",
        "stop": "You can stop.",
        "unknown": f"Too little is measured to say whether to stop: {reason}.",
    }
    return f"{adds} {advice[forecast.advice]}"


def query_verdict(rates: ErrorRateDifference | None) -> Verdict:
    """Tell whether the images that were asked are harder for the model than random ones."""
    if rates is None:
        return "unknown"
    low, high = rates.interval
    if low > 0:
        return "harder"
    if high < 0:
        return "worse"
    return "no better" if rates.random.images >= ENOUGH_RANDOM else "unknown"


def _measured(row: RoundRow) -> RoundResult:
    return RoundResult(
        labels=row.labels or 0,
        size=row.holdout_size or 0,
        quality=row.holdout_quality or 0.0,
        squares=row.holdout_squares or 0.0,
        change=row.holdout_change,
        change_squares=row.holdout_change_squares,
        agreement=row.agreement,
    )


def _gain(forecast: GainForecast, metric: Metric) -> str:
    gain, low, high = (_number(value, metric) for value in (forecast.gain, forecast.low, forecast.high))
    if not metric.counted:
        return f"{gain} to the {metric.name} ({low} to {high})"
    return f"{gain} {'point' if gain == '1.0' else 'points'} ({low} to {high})"


def _number(value: float, metric: Metric) -> str:
    """Return a gain in percentage points, or as a number from 0 to 1; without a minus before zero."""
    text = f"{100 * value:.1f}" if metric.counted else f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
