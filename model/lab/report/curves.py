"""Charts of the rows of a simulation: learning curves, differences to random, classes of the images asked."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from model.lab.learning_curves import CONTROL, Point, RoundRow, summarize
from model.lab.report.chart import COLOURS, DARK, Chart, Trace, colour, dash, marker
from model.querying.outputs import FloatArray

MOST_CURVES = 8  # of a chart, with random: more would cover each other
MOST_CLASSES = len(COLOURS)  # with bars in a chart

Draw = Callable[[str, int, list[Point]], Trace | None]  # name, number and points of a strategy -> its curve


def charts(rows: Sequence[RoundRow], classes: Sequence[str] = ()) -> list[Chart]:
    """Return every chart that the rows have figures for. classes: their names, if known."""
    points = summarize(rows)
    drawn = [*_accuracy(points), *_difference(points), *_histograms(rows, classes), *_foreign(points)]
    return [chart for chart in drawn if chart.traces]


def _strategies(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the points by strategy, in the order of their first row."""
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        groups[point.strategy].append(point)
    return groups


def _accuracy(points: Sequence[Point]) -> list[Chart]:
    seeds = {name: max(p.seeds for p in own) for name, own in _strategies(points).items()}
    fewest, most = min(seeds.values(), default=0), max(seeds.values(), default=0)

    def draw(name: str, number: int, own: list[Point]) -> Trace:
        shown = name if fewest == most else f"{name} ({_count(seeds[name])})"
        mean, spread = [100 * p.mean for p in own], [100 * (p.sd or 0.0) for p in own]
        return _curve(shown, number, [p.labels for p in own], mean, spread)

    over = _count(most) if fewest == most else f"{fewest} to {_count(most)}, see the number after the name"
    note = f"Mean over {over}; the band is one standard deviation to either side."
    chart = Chart("learning-curves", "Learning curves", "line", "labels", "test accuracy in %", [], note)
    return _split_by_strategies(chart, points, draw)


def _difference(points: Sequence[Point]) -> list[Chart]:
    def draw(name: str, number: int, own: list[Point]) -> Trace | None:
        paired = [p for p in own if p.difference is not None]
        if name == CONTROL or not paired:
            return None
        gaps = [100 * (p.difference or 0.0) for p in paired]
        return _curve(name, number, [p.labels for p in paired], gaps, [100 * (p.difference_sd or 0.0) for p in paired])

    note = (
        "Per seed: accuracy minus that of random images, after the same number of labels; the mean over the seeds. "
        "The band is one standard deviation of these differences."
    )
    chart = Chart("difference-to-random", "Against random", "line", "labels", "points of accuracy", [], note, zero=True)
    return _split_by_strategies(chart, points, draw)


def _foreign(points: Sequence[Point]) -> list[Chart]:
    def draw(name: str, number: int, own: list[Point]) -> Trace | None:
        if all(p.foreign is None for p in own):
            return None
        return _curve(name, number, [p.round for p in own], [100 * (p.foreign or 0.0) for p in own])

    note = "Images of the other set have no class: a query for one is wasted."
    chart = Chart(
        "foreign", "Budget spent on another set", "line", "round", "% of the round", [], note, zero=True, whole=True
    )
    return _split_by_strategies(chart, points, draw)


def _curve(name: str, number: int, x: list[float], y: list[float], spread: list[float] | None = None) -> Trace:
    return Trace(name, x, y, colour(number), spread, dash=dash(number), marker=marker(number))


def _count(seeds: int) -> str:
    return f"{seeds} seed{'s' if seeds != 1 else ''}"


def _split_by_strategies(chart: Chart, points: Sequence[Point], draw: Draw) -> list[Chart]:
    """Return the chart with a curve for each strategy, or several charts of about as many curves, each with random."""
    groups = _strategies(points)
    numbers = {name: number for number, name in enumerate(groups)}
    control = [name for name in groups if name == CONTROL]
    others = [name for name in groups if name != CONTROL]
    parts = max(ceil(len(others) / (MOST_CURVES - len(control))), 1)
    parts_drawn = []
    for place, names in enumerate(np.array_split(np.arange(len(others)), parts)):
        shown = sorted([*control, *(others[index] for index in names)], key=numbers.__getitem__)
        traces = [trace for name in shown if (trace := draw(name, numbers[name], groups[name])) is not None]
        suffix, title = (f"-{place + 1}" if place else ""), (f" ({place + 1} of {parts})" if parts > 1 else "")
        parts_drawn.append(replace(chart, name=chart.name + suffix, title=chart.title + title, traces=traces))
    return parts_drawn


def _histograms(rows: Sequence[RoundRow], classes: Sequence[str]) -> list[Chart]:
    """Return a chart for each strategy: images of each class that each round asked, the mean over the seeds."""
    asked: dict[str, dict[int, list[list[int]]]] = defaultdict(lambda: defaultdict(list))
    labels = {(row["strategy"], row["seed"], row["round"]): row["labels"] for row in rows}
    mixed = any("foreign" in row for row in rows)
    for row in rows:
        if "asked" in row:
            before = labels.get((row["strategy"], row["seed"], row["round"] - 1), 0)
            other = [row["labels"] - before - sum(row["asked"])] if mixed else []
            asked[row["strategy"]][row["round"]].append([*row["asked"], *other])
    return [
        Chart(
            f"classes-{number:02d}",
            f"Classes of the images asked: {name}",
            "bars",
            "round",
            "images",
            _class_traces(rounds, classes, mixed),
            "Mean over the seeds.",
            whole=True,
        )
        for number, (name, rounds) in enumerate(asked.items())
    ]


def _class_traces(rounds: dict[int, list[list[int]]], classes: Sequence[str], mixed: bool) -> list[Trace]:
    numbers = sorted(rounds)
    means = np.array([np.mean(rounds[number], axis=0) for number in numbers])  # (rounds, classes [+ another set])
    of_class, foreign = (means[:, :-1], means[:, -1:]) if mixed else (means, means[:, :0])
    names = list(classes) if len(classes) == of_class.shape[1] else [f"class {c}" for c in range(of_class.shape[1])]
    traces = [
        Trace(name, numbers, of_class[:, c].tolist(), colour(place))
        for place, (name, c) in enumerate(_most_asked(of_class, names))
    ]
    others = of_class.sum(axis=1) - np.sum([trace.y for trace in traces], axis=0)
    if len(traces) < len(names):
        traces.append(Trace(f"{len(names) - len(traces)} other classes", numbers, others.tolist(), DARK))
    if mixed:
        traces.append(Trace("of the other set", numbers, foreign[:, 0].tolist(), "#000000"))
    return traces


def _most_asked(means: FloatArray, names: Sequence[str]) -> list[tuple[str, int]]:
    """Return name and id of the classes that get bars of their own: the most asked if there are too many."""
    shown = np.arange(len(names))
    if len(names) > MOST_CLASSES:
        shown = np.sort(np.argsort(-means.sum(axis=0), kind="stable")[: MOST_CLASSES - 1])
    return [(names[c], c) for c in shown.tolist()]
