"""Charts of a simulation's rows: learning curves, differences to random, classes of what was asked."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from model.curves import CONTROL, Point, Row, summarize
from model.report.chart import Chart, Trace, colour


def charts(rows: Sequence[Row]) -> list[Chart]:
    """Return every chart that these rows have the figures for."""
    points = summarize(rows)
    found = [_accuracy(points), *_difference(points), *_histograms(rows), *_foreign(points)]
    return [chart for chart in found if chart.traces]


def _strategies(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the points by strategy, in the order of their first row."""
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        groups[point.strategy].append(point)
    return groups


def _accuracy(points: Sequence[Point]) -> Chart:
    traces = [
        Trace(
            name,
            [p.labels for p in own],
            [100 * p.mean for p in own],
            colour(number),
            [100 * (p.sd or 0.0) for p in own],
        )
        for number, (name, own) in enumerate(_strategies(points).items())
    ]
    seeds = max((p.seeds for p in points), default=0)
    note = f"Mean over {seeds} seed{'s' if seeds != 1 else ''}; the band is one standard deviation to either side."
    return Chart("learning-curves", "Learning curves", "line", "labels", "test accuracy in %", traces, note)


def _difference(points: Sequence[Point]) -> list[Chart]:
    traces = []
    for number, (name, own) in enumerate(_strategies(points).items()):
        paired = [p for p in own if p.difference is not None]
        if name != CONTROL and paired:
            gaps = [100 * (p.difference or 0.0) for p in paired]
            spread = [100 * (p.difference_sd or 0.0) for p in paired]
            traces.append(Trace(name, [p.labels for p in paired], gaps, colour(number), spread))
    note = "Per seed: accuracy minus that of random images, after the same number of labels."
    return [Chart("difference-to-random", "Against random", "line", "labels", "points of accuracy", traces, note, True)]


def _histograms(rows: Sequence[Row]) -> list[Chart]:
    """Return a chart a strategy: how many images of each class each round asked, the mean over the seeds."""
    asked: dict[str, dict[int, list[list[int]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if "asked" in row:
            asked[row["strategy"]][row["round"]].append(row["asked"])
    return [
        Chart(
            f"classes-{number:02d}",
            f"Classes of what was asked: {name}",
            "bars",
            "round",
            "images",
            _class_traces(rounds),
        )
        for number, (name, rounds) in enumerate(asked.items())
    ]


def _class_traces(rounds: dict[int, list[list[int]]]) -> list[Trace]:
    numbers = sorted(rounds)
    means = np.array([np.mean(rounds[number], axis=0) for number in numbers])  # (rounds, classes)
    return [Trace(f"class {c}", numbers, means[:, c].tolist(), colour(c)) for c in range(means.shape[1])]


def _foreign(points: Sequence[Point]) -> list[Chart]:
    traces = [
        Trace(name, [p.round for p in own], [100 * (p.foreign or 0.0) for p in own], colour(number))
        for number, (name, own) in enumerate(_strategies(points).items())
        if any(p.foreign is not None for p in own)
    ]
    note = "Images of the other set, which nobody can label: asking one wastes budget."
    return [Chart("foreign", "Budget spent on another set", "line", "round", "% of the round", traces, note)]
