"""How wrong models were about the images that they asked and about random ones, with the uncertainty."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from backend.store import AskRole
from backend.store.dashboard_queries import AskedQuality
from model.evaluation.metrics import mean_interval


@dataclass(frozen=True)
class Rate:
    """The mean error of a model on some images; an error is 1 - quality, so that it is 0 or 1 for one class an image.

    wrong, squares: sums of the errors and of their squares.
    """

    wrong: float
    images: int
    squares: float

    @property
    def share(self) -> float:
        """The mean error, 0 to 1."""
        return self.wrong / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the mean error."""
        return mean_interval(self.wrong, self.squares, self.images)


@dataclass(frozen=True)
class ErrorRateDifference:
    """The mean errors on images that a model asked and on random ones, both before it had learned the answers."""

    asked: Rate
    random: Rate

    @property
    def difference(self) -> float:
        """How much larger the mean error is on asked images, -1 to 1."""
        return self.asked.share - self.random.share

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the difference. Source: Newcombe 1998, method 10."""
        (low_a, high_a), (low_r, high_r) = self.asked.interval, self.random.interval
        below = sqrt((self.asked.share - low_a) ** 2 + (high_r - self.random.share) ** 2)
        above = sqrt((high_a - self.asked.share) ** 2 + (self.random.share - low_r) ** 2)
        return self.difference - below, self.difference + above


def error_rate_difference(rows: Iterable[AskedQuality]) -> ErrorRateDifference | None:
    """Compare the query with the holdout; None while either has no answered image with a prediction.

    Reserve images were chosen like the query, and count as such.
    """
    asked, random = Rate(0, 0, 0), Rate(0, 0, 0)
    for row in rows:
        if row.role == AskRole.HOLDOUT:
            random = _add(random, row)
        else:
            asked = _add(asked, row)
    if not (asked.images and random.images):
        return None
    return ErrorRateDifference(asked, random)


def _add(rate: Rate, row: AskedQuality) -> Rate:
    # The sum of (1 - q) squared is n - 2 sum(q) + sum(q squared).
    return Rate(
        rate.wrong + row.predicted - row.quality,
        rate.images + row.predicted,
        rate.squares + row.predicted - 2 * row.quality + row.squares,
    )


def error_rates_by_round(rows: Iterable[AskedQuality]) -> dict[int, ErrorRateDifference]:
    """Compare query and holdout round by round, where that is possible."""
    by_round: dict[int, list[AskedQuality]] = {}
    for row in rows:
        by_round.setdefault(row.round, []).append(row)
    rates = {number: error_rate_difference(of_round) for number, of_round in by_round.items()}
    return {number: value for number, value in rates.items() if value is not None}
