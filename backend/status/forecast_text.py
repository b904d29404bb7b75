"""What a project's numbers advise: whether another round is worth its labels, and whether choosing images pays."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from backend.status.query_error_rate import ErrorRateDifference
from backend.store import RoundRow
from model.evaluation.forecast import MIN_HOLDOUT, SURE, GainForecast, RoundResult, forecast_gain

FEW_RANDOM = 10  # random images below which their share is no number to show: one more would move it by ten points
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
        """Say how many random images an advice to stop still needs, and how long that takes; None when none."""
        if self.measured >= MIN_HOLDOUT:
            return None
        have = f"{self.measured} of the {MIN_HOLDOUT} random images that an advice needs are labeled"
        if not self.random:
            return have
        rounds = -(-(MIN_HOLDOUT - self.measured) // self.random)
        return f"{have}; about {rounds:,} more {'round' if rounds == 1 else 'rounds'}"


def forecast_of(rounds: Iterable[RoundRow], labels: int) -> GainForecast | None:
    """Return what ``labels`` more labels would add to the newest model; None while nothing can be said.

    Models of another problem are left out: their quality is another number.
    """
    models = [row for row in rounds if row.has_model]
    return forecast_gain([_measured(row) for row in models if row.problem == models[-1].problem], labels)


def what_comes(found: GainForecast, ahead: NextRound) -> str:
    """Say what another round would add, and what follows from it."""
    gain, low, high = (_points(share) for share in (found.gain, found.low, found.high))
    unit = "point" if gain == "1.0" else "points"
    cost = f"{ahead.answers:,} {'answer' if ahead.answers == 1 else 'answers'}"
    if ahead.answers > found.labels:
        cost += f", {found.labels:,} of them to learn from"
    adds = f"Another round ({cost}) would add about {gain} {unit} ({low} to {high})."
    why = ahead.missing or f"the interval has to end below {100 * SURE:.0f} points"
    ends = {
        "continue": "Go on.",
        "stop": "You can stop.",
        "unknown": f"Too little is measured to say whether to stop: {why}.",
    }
    return f"{adds} {ends[found.advice]}"


def how_good(quality: float, size: int, interval: tuple[float, float]) -> str:
    """Return a sum of qualities on ``size`` > 0 random images as text: the mean with its interval, or counts of few."""
    if size < FEW_RANDOM:
        return f"{quality:g} of {size} right, too few to say"
    return f"{quality / size:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"


def query_verdict(found: ErrorRateDifference | None) -> Verdict:
    """Tell whether the images that were asked are harder for the model than random ones."""
    if found is None:
        return "unknown"
    low, high = found.interval
    if low > 0:
        return "harder"
    if high < 0:
        return "worse"
    return "no better" if found.random.images >= ENOUGH_RANDOM else "unknown"


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


def _points(share: float) -> str:
    """Write a share in percentage points, without a minus before 0.0."""
    text = f"{100 * share:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "\N{MINUS SIGN}")
