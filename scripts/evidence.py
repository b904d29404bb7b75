"""Write the tables of the pages in PAGES from the rows in docs/evidence: ``python scripts/evidence.py``.

A table is between two marks. The first names its strategies, one on each line, with the words that the page has for
them::

    <!-- table bal-photos
    random
    /high_first/even/least_confidence = the paper's order
    -->
    <!-- end of table -->

Numbers behind the name of the file choose the columns by their labels. ``needed`` in place of ``table`` writes how many
labels random images need for the accuracy that a strategy has reached.

``objects`` has the columns at so many drawn objects, for rows that count them, where each seed's curve is read off
between its rounds.

An overview has the mean over all rounds instead, or over those with the labels that its mark names, with a column for
each file.

The picture of the README, PICTURE, shows the curves of PANELS.
"""

import io
import json
import re
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from math import inf, isinf, sqrt
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from model.lab.learning_curves import (  # noqa: E402 - the sources are no installed package
    CONTROL,
    Point,
    RoundRow,
    needed_interval,
    summarize,
)
from model.lab.report.chart import COLOURS, DARK  # noqa: E402

PAGES = [ROOT / "docs" / name for name in ("method.md", "method-own-network.md")]
EVIDENCE = ROOT / "docs" / "evidence"
MARK = re.compile(
    r"(<!-- (?P<kind>table|overview|needed|objects) (?P<names>[^\n]+)\n(?P<lines>.*?)-->\n).*?(<!-- end of table -->)",
    re.DOTALL,
)

PICTURE = ROOT / "docs" / "images" / "labels.png"
PANELS = {"photos": "photos", "objects": "44 kinds of objects", "cifar10": "CIFAR-10", "fashion-mnist": "Fashion-MNIST"}
DEFAULT = "default"


def page(text: str) -> str:
    """Return the page with every table written anew; raise ValueError for a strategy without rows."""
    return MARK.sub(lambda mark: f"{mark[1]}{_written(mark['kind'], mark['names'], mark['lines'])}{mark[5]}", text)


def _written(kind: str, names: str, lines: str) -> str:
    wanted = dict(_strategy(line) for line in lines.splitlines())
    files = [word for word in names.split() if not word.isdecimal()]
    labels = {int(word) for word in names.split() if word.isdecimal()}
    if kind == "overview":
        return _overview(files, labels, wanted)
    if kind == "objects":
        return _by_objects(files[0], sorted(labels), wanted)
    return _table(files[0], labels, wanted, _needed if kind == "needed" else _cell)


def _overview(names: list[str], labels: set[int], wanted: dict[str, str]) -> str:
    """Return each strategy's mean difference to random over rounds, with the standard error; of random, the accuracy.

    labels: of the rounds; empty for all.
    """
    lines = [f"| strategy | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    pools = [
        [row for row in _rows(name, wanted.keys() | {CONTROL}) if not labels or row["labels"] in labels]
        for name in names
    ]
    for strategy, words in wanted.items():
        cells = [_difference(rows, strategy) for rows in pools]
        lines.append(f"| `{strategy}`{f' ({words})' if words else ''} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _difference(rows: list[RoundRow], strategy: str) -> str:
    control, accuracies = (
        {(row["seed"], row["round"]): row["accuracy"] for row in rows if row["strategy"] == name}
        for name in (CONTROL, strategy)
    )
    by_seed = [
        100 * mean(value - control[seed, number] for (seed, number), value in accuracies.items() if seed == each)
        for each in sorted({seed for seed, _ in accuracies})
    ]
    if strategy == CONTROL:
        return f"{100 * mean(control.values()):.1f}"
    return f"{mean(by_seed):+.1f} ± {stdev(by_seed) / sqrt(len(by_seed)):.1f}"


def _rows(name: str, wanted: Iterable[str]) -> list[RoundRow]:
    rows: list[RoundRow] = json.loads((EVIDENCE / f"{name}.json").read_text())
    missing = {*wanted} - {row["strategy"] for row in rows}
    if missing:
        raise ValueError(f"{name} has no rows of {', '.join(sorted(missing))}")
    return rows


def _table(name: str, shown: set[int], wanted: dict[str, str], cell: Callable[[Point, list[RoundRow]], str]) -> str:
    rows = _rows(name, wanted)
    # Labels are saved against all rounds of random, whichever are shown.
    points = summarize([row for row in rows if row["strategy"] in wanted.keys() | {CONTROL}])
    points = [point for point in points if not shown or point.labels in shown]
    rounds = sorted({point.round for point in points})
    labels = [f"{next(point for point in points if point.round == number).labels:.0f}" for number in rounds]
    lines = [f"| strategy | {' | '.join([f'{labels[0]} labels', *labels[1:]])} |", "| --- |" + " --- |" * len(rounds)]
    for strategy, words in wanted.items():
        by_round = {point.round: point for point in points if point.strategy == strategy}
        cells = [cell(by_round[number], rows) if number in by_round else "" for number in rounds]
        lines.append(f"| `{strategy}`{f' ({words})' if words else ''} | {' | '.join(cells)} |")
    seeds = sorted({row["seed"] for row in rows if row["strategy"] in wanted})
    fewest = min(point.seeds for point in points if point.strategy in wanted)
    note = f"Seeds {seeds[0]} to {seeds[-1]}" + (f"; at least {fewest} of them in each cell" * (fewest < len(seeds)))
    return "\n".join([*lines, "", f"{note}.", ""])


def _by_objects(name: str, objects: list[int], wanted: dict[str, str]) -> str:
    """Return accuracies at so many drawn objects, with the paired difference to random; empty where a seed has fewer.

    The curve of a seed is linear between its rounds, and nothing is read off before its first one or behind its last.
    """
    curves: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for row in sorted(_rows(name, wanted.keys() | {CONTROL}), key=lambda row: row["round"]):
        curve = curves.setdefault(row["strategy"], {}).setdefault(row["seed"], [])
        curve.append((row["objects"], 100 * row["accuracy"]))
    lines = [f"| strategy | {' | '.join([f'{objects[0]} objects', *map(str, objects[1:])])} |"]
    lines.append("| --- |" + " --- |" * len(objects))
    for strategy, words in wanted.items():
        cells = [
            _object_cell(
                *({seed: _at(curve, count) for seed, curve in curves[one].items()} for one in (strategy, CONTROL))
            )
            for count in objects
        ]
        lines.append(f"| `{strategy}`{f' ({words})' if words else ''} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _object_cell(own: dict[int, float | None], control: dict[int, float | None]) -> str:
    """Return the mean over the seeds that have both, and mean and deviation of their differences to random."""
    pairs = [(own.get(seed), other) for seed, other in control.items()]
    known = [(value, other) for value, other in pairs if value is not None and other is not None]
    if not known:
        return ""
    reached, differences = f"{mean(value for value, _ in known):.1f}", [value - other for value, other in known]
    if not any(differences):
        return reached
    return f"{reached} ({mean(differences):+.1f}{f' ± {stdev(differences):.1f}' if len(known) > 1 else ''})"


def _at(curve: list[tuple[float, float]], count: float) -> float | None:
    """Return a curve's accuracy at so many objects; None outside of it."""
    for (low, first), (high, second) in pairwise(curve):
        if low <= count <= high:
            return first + (second - first) * (count - low) / max(high - low, 1)
    return None


def _strategy(line: str) -> tuple[str, str]:
    name, _, words = line.partition("=")
    return name.strip(), words.strip()


def _cell(point: Point, rows: list[RoundRow]) -> str:
    """Return mean accuracy, mean and deviation of the paired difference to random, and the share of foreign images."""
    foreign = "" if point.foreign is None else f", {point.foreign:.0%}"
    reached = f"{100 * point.mean:.1f}"
    if point.strategy == CONTROL or point.difference is None:
        return reached + foreign
    spread = "" if point.difference_sd is None else f" ± {100 * point.difference_sd:.1f}"
    return f"{reached} ({100 * point.difference:+.1f}{spread}){foreign}"


def _needed(point: Point, rows: list[RoundRow]) -> str:
    """Return the labels that random needs for this accuracy, with an interval; a bound where its curve ends before."""
    if point.reach is None:
        return ""
    first, last = point.reach
    if point.saved is None:
        return f"< {first:.0f}"
    interval = needed_interval(rows, point.strategy, point.round)
    low, high = interval if interval is not None else (inf, inf)
    if isinf(point.saved):
        return f"> {last:.0f}" + ("" if isinf(low) else f" ({low:.0f} or more)")
    needed = f"{point.labels + point.saved:.0f}"
    if interval is None:
        return needed
    return f"{needed} ({low:.0f} to {high:.0f})" if not isinf(high) else f"{needed} ({low:.0f} or more)"


def picture() -> bytes:
    """Return the PNG of PANELS: accuracy over labels, of the default and of random images with the same learner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.1), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (name, title) in enumerate(PANELS.items()):
        axes = figure.add_subplot(1, len(PANELS), number + 1)
        points = summarize(_rows(f"enc-{name}", (DEFAULT, CONTROL)))
        for strategy, words, shade in ((DEFAULT, "PT4AL", COLOURS[0]), (CONTROL, "random images", DARK)):
            own = [point for point in points if point.strategy == strategy]
            labels, mean, sd = ([getattr(p, field) or 0.0 for p in own] for field in ("labels", "mean", "sd"))
            low, high = ([100 * (m + sign * d) for m, d in zip(mean, sd, strict=True)] for sign in (-1, 1))
            axes.plot(labels, [100 * m for m in mean], color=shade, label=words)
            axes.fill_between(labels, low, high, color=shade, alpha=0.15, linewidth=0)
        axes.set_title(title)
        axes.set_xlabel("labels")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        if number == 0:
            axes.set_ylabel("test accuracy in %")
            axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path.read_text()))
    PICTURE.write_bytes(picture())
