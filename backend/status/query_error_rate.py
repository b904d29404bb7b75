"""What the answers say about the model and about the queue, with its uncertainty."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from backend.store import AskRole
from backend.store.dashboard_queries import Asked
from model.evaluation.metrics import wilson_interval


@dataclass(frozen=True)
class Rate:
    """A share of images on which the model was wrong."""

    wrong: int
    images: int

    @property
    def share(self) -> float:
        """The share, 0 to 1."""
        return self.wrong / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% Wilson interval of the share."""
        return wilson_interval(self.wrong, self.images)


@dataclass(frozen=True)
class ErrorRateDifference:
    """The model's errors on the images that it asked, and on random ones, both before it had seen the answers."""

    asked: Rate
    random: Rate

    @property
    def difference(self) -> float:
        """How much more often the model was wrong on asked images, -1 to 1."""
        return self.asked.share - self.random.share

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the difference. Source: Newcombe 1998, method 10."""
        (low_a, high_a), (low_r, high_r) = self.asked.interval, self.random.interval
        below = sqrt((self.asked.share - low_a) ** 2 + (high_r - self.random.share) ** 2)
        above = sqrt((high_a - self.asked.share) ** 2 + (self.random.share - low_r) ** 2)
        return self.difference - below, self.difference + above


def error_rate_difference(rows: Iterable[Asked]) -> ErrorRateDifference | None:
    """Compare the query with the holdout; None while either has no answered image with a guess.

    Reserve images were chosen like the query, and count as such.
    """
    asked, random = [0, 0], [0, 0]
    for row in rows:
        sums = random if row.role == AskRole.HOLDOUT else asked
        sums[0] += row.wrong
        sums[1] += row.predicted
    if not (asked[1] and random[1]):
        return None
    return ErrorRateDifference(Rate(*asked), Rate(*random))


def error_rates_by_round(rows: Iterable[Asked]) -> dict[int, ErrorRateDifference]:
    """Compare query and holdout round by round, where that is possible."""
    by_round: dict[int, list[Asked]] = {}
    for row in rows:
        by_round.setdefault(row.round, []).append(row)
    found = {number: error_rate_difference(of_round) for number, of_round in by_round.items()}
    return {number: value for number, value in found.items() if value is not None}
