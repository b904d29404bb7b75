"""Learning curves over strategies and seeds, and how each strategy compares with random."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np

from model.querying.outputs import FloatArray

CONTROL = "random"
DRAWS, FEWEST_SEEDS = 1000, 3  # of a bootstrap over seeds


class RoundRow(TypedDict):
    """One measurement of a simulation: accuracy on the test set after ``round`` was labeled and trained on.

    labels: images asked so far. asked: number of images of each class that this round asked. foreign: share of this
    round's images that came from another set and have no class. objects: drawn on all images so far, where an image has
    several. With a holdout also what a project measures on it, see ``RoundResult`` in ``model.evaluation.forecast``.
    """

    strategy: str
    seed: int
    round: int
    labels: int
    accuracy: float
    asked: NotRequired[list[int]]
    foreign: NotRequired[float]
    objects: NotRequired[int]
    holdout_size: NotRequired[int]
    holdout_correct: NotRequired[int]
    gained: NotRequired[int]
    lost: NotRequired[int]
    agreement: NotRequired[float]


@dataclass(frozen=True)
class Point:
    """A strategy after a round, over its seeds.

    mean, sd: accuracy in [0, 1]; sd is None for a single seed. difference, difference_sd: accuracy minus that of random
    with the same seed and round, over the ``pairs`` seeds that have both. saved: labels that random needs with the same
    seeds for the same accuracy, minus the labels used; infinite if random never reaches it, None if random has it from
    its first round on. reach: labels of the first and the last round of random with these seeds. Both are None without
    anything to compare with, and for random itself. foreign: mean share of the round's images that have no class, None
    if it was not measured.
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


def summarize(rows: Sequence[RoundRow]) -> list[Point]:
    """Return a point for each strategy and round; strategies in the order of their first row."""
    groups: dict[tuple[str, int], dict[int, RoundRow]] = defaultdict(dict)
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

    labels, accuracies: (R,) of the curve, labels ascending. Infinite if the curve never reaches it; None if the curve
    lies above ``accuracy`` from its first point on, so that the number is unknown.
    """
    best = np.maximum.accumulate(accuracies)  # a later dip does not count
    if accuracy > best[-1]:
        return float("inf")
    after = int(np.searchsorted(best, accuracy, side="left"))
    if after == 0:
        return float(labels[0]) if accuracy == best[0] else None
    share = (accuracy - best[after - 1]) / (best[after] - best[after - 1])
    return float(labels[after - 1] + share * (labels[after] - labels[after - 1]))


def needed_interval(rows: Sequence[RoundRow], strategy: str, number: int) -> tuple[float, float] | None:
    """Return a 90% interval of the labels that random needs for the accuracy of a strategy after a round.

    By bootstrap over the seeds, which are drawn DRAWS times with replacement, for both curves together. A bound is 0
    where random has the accuracy from its first round on, and infinite where it never reaches it. None with fewer than
    three seeds that have all rounds of random.
    """
    control, own = _curves(rows, CONTROL), _curves(rows, strategy)
    last = max((len(curve) for curve in control.values()), default=0)
    seeds = [seed for seed, curve in control.items() if len(curve) == last and number in own.get(seed, {})]
    if len(seeds) < FEWEST_SEEDS:
        return None
    labels = np.array([row["labels"] for _, row in sorted(control[seeds[0]].items())], np.float64)
    curves = np.array([[row["accuracy"] for _, row in sorted(control[seed].items())] for seed in seeds])
    reached = np.array([own[seed][number]["accuracy"] for seed in seeds])
    drawn = np.random.default_rng(0).integers(len(seeds), size=(DRAWS, len(seeds)))
    needed = [labels_needed(reached[draw].mean(), labels, curves[draw].mean(axis=0)) for draw in drawn]
    low, high = np.quantile([0.0 if one is None else one for one in needed], (0.05, 0.95), method="closest_observation")
    return float(low), float(high)


def _curves(rows: Iterable[RoundRow], strategy: str) -> dict[int, dict[int, RoundRow]]:
    """Return the rows of a strategy by seed and round."""
    curves: dict[int, dict[int, RoundRow]] = defaultdict(dict)
    for row in rows:
        if row["strategy"] == strategy:
            curves[row["seed"]][row["round"]] = row
    return curves


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
    """Return the labels saved as text; a bound where the curve of random does not reach that accuracy."""
    if point.reach is None:
        return "-"
    first, last = point.reach
    if point.saved is None:
        return f"< {first - point.labels:.0f}"
    return f"> {last - point.labels:.0f}" if np.isinf(point.saved) else f"{point.saved:.0f}"


def _point(name: str, number: int, by_seed: dict[int, RoundRow], control: Mapping[int, dict[int, RoundRow]]) -> Point:
    accuracies = np.array([row["accuracy"] for row in by_seed.values()])
    seeds = sorted(by_seed.keys() & control.get(number, {}).keys())
    gaps = np.array([by_seed[seed]["accuracy"] - control[number][seed]["accuracy"] for seed in seeds])
    labels = _mean(by_seed.values(), "labels")
    foreign = [row["foreign"] for row in by_seed.values() if "foreign" in row]
    saved, reach = _compared(by_seed, control, seeds) if seeds and name != CONTROL else (None, None)
    return Point(
        strategy=name,
        round=number,
        labels=labels,
        seeds=len(by_seed),
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
    by_seed: dict[int, RoundRow], control: Mapping[int, dict[int, RoundRow]], seeds: Sequence[int]
) -> tuple[float | None, tuple[float, float]]:
    """Return the labels saved against the curve of random, and the first and last number of labels of that curve.

    Both curves are means over the same seeds: seeds can differ as much as strategies do.
    """
    rounds = [[rows[seed] for seed in seeds] for rows in control.values() if rows.keys() >= set(seeds)]
    labels, accuracies = (np.array([_mean(rows, field) for rows in rounds]) for field in ("labels", "accuracy"))
    paired = [by_seed[seed] for seed in seeds]
    needed = labels_needed(_mean(paired, "accuracy"), labels, accuracies)
    saved = None if needed is None else needed - _mean(paired, "labels")
    return saved, (float(labels[0]), float(labels[-1]))


def _mean(rows: Iterable[RoundRow], field: str) -> float:
    return float(np.mean([row[field] for row in rows]))  # type: ignore[literal-required]  # "labels" or "accuracy"


def _sd(values: FloatArray) -> float | None:
    """Return the sample standard deviation; None for fewer than two values."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _percent(value: float | None) -> str:
    return "    -" if value is None else f"{100 * value:5.2f}"
