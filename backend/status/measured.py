"""How good a model is, as people read it: the one place that names a metric and writes a quality and its interval."""

from dataclasses import dataclass

from backend.store import RoundRow
from model.evaluation.metrics import mean_interval
from model.problems import problem

FEW_RANDOM = 10  # random images below which their share is no number to show: one more would move it by ten points
COUNTED = "accuracy"  # the metric of predictions that are right or wrong
# Metrics whose name is written in another way than the problem has it.
NAMES = {"f1": "F1", "miou": "IoU", "box_f1": "F1 of boxes"}


@dataclass(frozen=True)
class Metric:
    """A problem's headline number: the mean quality of its predictions.

    name: inside a sentence. counted: whether a prediction is right or wrong, so that sums of qualities are numbers of
    images and means are percentages; other qualities are written as numbers from 0 to 1.
    """

    name: str
    counted: bool

    @property
    def title(self) -> str:
        """The name at the beginning of a line."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def scale(self) -> float:
        """By what a quality is multiplied before it is shown."""
        return 100.0 if self.counted else 1.0

    @property
    def unit(self) -> str:
        """What stands behind a number so multiplied."""
        return "%" if self.counted else ""

    def number(self, mean: float, digits: int = 0) -> str:
        """Return a mean quality as text: ``80%`` or ``0.80``; digits: decimals of the percentage."""
        return f"{mean:.{digits}%}" if self.counted else f"{mean:.{2 + digits}f}"

    def interval(self, low: float, high: float) -> str:
        """Return an interval as text."""
        return f"{self.number(low)} to {self.number(high)}"

    def difference(self, value: float) -> str:
        """Return a difference of two mean qualities with its sign, in percentage points or as a number."""
        text = f"{100 * value:+.0f}" if self.counted else f"{value:+.2f}"
        return text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Measured:
    """The quality of a model on the labeled holdout.

    size: images. quality, squares: sums of the qualities of its predictions and of their squares.
    """

    metric: Metric
    size: int
    quality: float
    squares: float

    @property
    def few(self) -> bool:
        """Whether a share of so few images would say more than is known."""
        return self.size < FEW_RANDOM

    @property
    def mean(self) -> float | None:
        """The mean quality; None without any image."""
        return self.quality / self.size if self.size else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the mean quality."""
        return mean_interval(self.quality, self.squares, self.size)

    @property
    def number(self) -> str:
        """The mean as text, ``80%`` or ``0.63``; of few images, where they can be counted, ``1 of 2 right``."""
        if self.mean is None:
            return "not measured"
        counted = self.few and self.metric.counted
        return f"{self.quality:g} of {self.size} right" if counted else self.metric.number(self.mean)

    @property
    def remark(self) -> str:
        """What stands beside the number: its interval, or that it says little."""
        if not self.few:
            return self.metric.interval(*self.interval)
        images = "" if self.metric.counted else f"on {self.size} {'image' if self.size == 1 else 'images'}, "
        return f"{images}too few to say"

    @property
    def sentence(self) -> str:
        """Number and interval, behind the name of the metric."""
        if not self.few:
            return f"{self.number} ({self.remark})"
        return f"{self.number}{', ' if self.metric.counted else ' '}{self.remark}"


def metric_of(problem_name: str) -> Metric:
    """Return the metric of a problem of ``model.problems``."""
    name = problem(problem_name).metric
    return Metric(NAMES.get(name, name), name == COUNTED)


def measured(row: RoundRow) -> Measured:
    """Return how good a round's model is."""
    return Measured(
        metric_of(row.problem), row.holdout_size or 0, row.holdout_quality or 0.0, row.holdout_squares or 0.0
    )
