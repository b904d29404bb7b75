"""Learning curves of many strategies and seeds -> what each is worth against random."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np

from model.querying.outputs import FloatArray

CONTROL = "random"


class Row(TypedDict):
    """One measurement: accuracy on the test set after ``round`` was labeled and trained on.

    labels: images asked so far. asked: of this round, how many of each class. foreign: share of this round's images
    that have no class, because they came from another set. With a holdout also what a project knows of itself, see
    ``stopping.RoundResult``.
    """

    strategy: str
    seed: int
    round: int
    labels: int
    accuracy: float
    asked: NotRequired[list[int]]
    foreign: NotRequired[float]
    holdout_size: NotRequired[int]
    holdout_correct: NotRequired[int]
    gained: NotRequired[int]
    lost: NotRequired[int]
    agreement: NotRequired[float]


@dataclass(frozen=True)
class Point:
    """A strategy after a round, over its seeds.

    mean, sd: accuracy in [0, 1]; sd None for a single seed. difference, difference_sd: accuracy minus random's of the
    same seed and round, over the ``pairs`` seeds that have both. saved: labels that random needs with these seeds for
    what the strategy reaches with them, minus the labels used; infinite where random never gets there, None where it
    is there from its first round on. reach: labels of random's first and last round with these seeds. Both None where
    there is nothing to compare with, and of random itself. foreign: mean share of the round's images that have no
    class, None where it was not measured.
    """

    strategy: str
    round: int
    labels: float
    seeds: int
    mean: float
    sd: float | None
    pairs: int
    difference: float | None
    difference_sd: float | None
    saved: float | None
    reach: tuple[float, float] | None
    foreign: float | None = None


def summarize(rows: Sequence[Row]) -> list[Point]:
    """Return one point a strategy and round, strategies in the order of their first row."""
    groups: dict[tuple[str, int], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        groups[row["strategy"], row["round"]][row["seed"]] = row
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    control = {number: by_seed for (name, number), by_seed in sorted(groups.items()) if name == CONTROL}
    return [
        _point(name, number, groups[name, number], control)
        for name, number in sorted(groups, key=lambda key: (names.index(key[0]), key[1]))
    ]


def labels_needed(accuracy: float, labels: FloatArray, accuracies: FloatArray) -> float | None:
    """Return the labels at which a curve first reaches ``accuracy``, linear between its points.

    labels, accuracies: (R,) of the curve, labels rising. Infinite where it never does, None where it lies above
    ``accuracy`` from its first point on, so that nobody knows.
    """
    best = np.maximum.accumulate(accuracies)  # a dip after it got there does not unlearn it
    if accuracy > best[-1]:
        return float("inf")
    after = int(np.searchsorted(best, accuracy, side="left"))
    if after == 0:
        return float(labels[0]) if accuracy == best[0] else None
    share = (accuracy - best[after - 1]) / (best[after] - best[after - 1])
    return float(labels[after - 1] + share * (labels[after] - labels[after - 1]))


def table(points: Sequence[Point]) -> str:
    """Return the points as a text table, accuracies in percent."""
    lines = [f"{'strategy':<48} round labels  mean %    sd   vs random    sd  (n)  labels saved"]
    mixed = any(p.foreign is not None for p in points)
    lines[0] += "  foreign %" if mixed else ""
    for p in points:
        difference = (
            "         -     -" if p.difference is None else f"{100 * p.difference:+10.2f} {_percent(p.difference_sd)}"
        )
        lines.append(
            f"{p.strategy:<48} {p.round:5d} {p.labels:6.0f} {100 * p.mean:7.2f} {_percent(p.sd)}  {difference}"
            f"  ({p.pairs})  {_saved(p):>12}{f'  {_percent(p.foreign):>9}' if mixed else ''}"
        )
    return "\n".join(lines)


def _saved(point: Point) -> str:
    """Return labels saved as text, with a bound where random's curve does not reach so far up or down."""
    if point.reach is None:
        return "-"
    first, last = point.reach
    if point.saved is None:
        return f"< {first - point.labels:.0f}"
    return f"> {last - point.labels:.0f}" if np.isinf(point.saved) else f"{point.saved:.0f}"


def _point(name: str, number: int, own: dict[int, Row], control: Mapping[int, dict[int, Row]]) -> Point:
    accuracies = np.array([row["accuracy"] for row in own.values()])
    seeds = sorted(own.keys() & control.get(number, {}).keys())
    gaps = np.array([own[seed]["accuracy"] - control[number][seed]["accuracy"] for seed in seeds])
    labels = _mean(own.values(), "labels")
    foreign = [row["foreign"] for row in own.values() if "foreign" in row]
    saved, reach = _compared(own, control, seeds) if seeds and name != CONTROL else (None, None)
    return Point(
        strategy=name,
        round=number,
        labels=labels,
        seeds=len(own),
        mean=float(accuracies.mean()),
        sd=_sd(accuracies),
        pairs=len(gaps),
        difference=float(gaps.mean()) if len(gaps) else None,
        difference_sd=_sd(gaps),
        saved=saved,
        reach=reach,
        foreign=float(np.mean(foreign)) if foreign else None,
    )


def _compared(
    own: dict[int, Row], control: Mapping[int, dict[int, Row]], seeds: Sequence[int]
) -> tuple[float | None, tuple[float, float]]:
    """Return what a round saved against random's curve, and the labels between which that was measured.

    Both are means over the same seeds: one seed can be as far from another as a strategy from random.
    """
    rounds = [[by_seed[seed] for seed in seeds] for by_seed in control.values() if by_seed.keys() >= set(seeds)]
    labels, accuracies = (np.array([_mean(rows, field) for rows in rounds]) for field in ("labels", "accuracy"))
    paired = [own[seed] for seed in seeds]
    needed = labels_needed(_mean(paired, "accuracy"), labels, accuracies)
    saved = None if needed is None else needed - _mean(paired, "labels")
    return saved, (float(labels[0]), float(labels[-1]))


def _mean(rows: Iterable[Row], field: str) -> float:
    return float(np.mean([row[field] for row in rows]))  # type: ignore[literal-required]  # "labels" or "accuracy"


def _sd(values: FloatArray) -> float | None:
    """Return the sample standard deviation; None for fewer than two values."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _percent(value: float | None) -> str:
    return "    -" if value is None else f"{100 * value:5.2f}"
