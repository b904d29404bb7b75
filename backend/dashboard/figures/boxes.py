"""How the newest model's boxes find the objects of the holdout: by class, by score and by size.

Average precision goes by the order of all boxes that the model gives; precision and recall by the boxes that it shows,
whose score reaches the threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from backend.dashboard.figures.base import Figure, axis, figure, heat_map, names, plain
from backend.dashboard.figures.classes import number
from backend.dashboard.figures.confusion import MAX_CLASSES, WAITING
from backend.dashboard.pictures import pictures
from backend.dashboard.project_page import ProjectPage
from backend.status.measured import FEW_RANDOM
from backend.status.predictions import PoolPredictions
from model.evaluation.boxes import Detections, bootstrapped, match, mean_average_precision
from model.problems.detection import DEFAULT_THRESHOLD, Detection, as_arrays
from model.querying.outputs import BoolArray, FloatArray

COLUMNS = ("AP50", "AP50:95", "precision", "recall", "objects", "images")
SHADED = 4  # of the columns, the first ones
MAX_CURVES = 8  # classes, those of most objects
MAX_POINTS = 200  # of a curve
DASHES = ("solid", "dash", "dot", "dashdot")
SIZES = (8, 16, 32, 64, 128)  # pixels of a side, between the bars
NO_OBJECTS = "No labeled random image has an object yet."


@dataclass(frozen=True)
class ClassBoxes:
    """One class on the holdout.

    objects: that annotators drew, on ``images`` images. shown, hits: boxes that the model shows, and those that find an
    object. ap50, ap: average precision at an overlap of 0.5, and over 0.5 to 0.95; None without an object.
    """

    name: str
    objects: int
    images: int
    shown: int
    hits: int
    ap50: float | None
    ap: float | None

    @property
    def rates(self) -> list[float | None]:
        """Both average precisions, precision and recall; None where there is nothing to divide by."""
        precision = self.hits / self.shown if self.shown else None
        return [self.ap50, self.ap, precision, self.hits / self.objects if self.objects else None]


def draw(page: ProjectPage) -> Figure | str:
    """Draw a table: a row a class, its rates shaded."""
    held, found = page.held, _found(page)
    if held is None or found is None:
        return WAITING
    results = class_boxes(held.classes, found, _threshold(held))
    if not results:
        return NO_OBJECTS
    cells = [[*map(number, result.rates), f"{result.objects:,}", f"{result.images:,}"] for result in results]
    shades = [[*(100 * (rate or 0.0) for rate in result.rates), 0.0, 0.0] for result in results]
    trace = heat_map(
        list(COLUMNS), names([result.name for result in results]), shades, cells, zmax=100, hoverinfo="skip"
    )
    return figure(
        [trace | {"text": cells, "texttemplate": "%{text}"}],
        xaxis={"type": "category", "automargin": True, "side": "top"},
        yaxis={"type": "category", "automargin": True, "autorange": "reversed"},
    )


def draw_curves(page: ProjectPage) -> Figure | str:
    """Plot precision against recall at an overlap of 0.5, a line a class, with a mark where boxes are shown from."""
    held, found = page.held, _found(page)
    if held is None or found is None:
        return WAITING
    order = [i for i in np.argsort([-part.objects.sum() for part in found], kind="stable") if found[i].objects.any()]
    if not order:
        return NO_OBJECTS
    traces = []
    for place, i in enumerate(sorted(order[:MAX_CURVES])):
        traces += _curve(held.classes[i], found[i], _threshold(held), place)
    return figure(
        traces,
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        xaxis=axis("recall", range=[-0.02, 1.02]),
        yaxis=axis("precision", range=[-0.02, 1.04]),
    )


def draw_sizes(page: ProjectPage) -> Figure | str:
    """Plot the number of objects of each size, those that are found and those that are missed."""
    sizes = page.of_holdout("box sizes", lambda held: _object_sizes(page, held))
    if sizes is None:
        return WAITING
    sides, found = sizes
    if not len(sides):
        return NO_OBJECTS
    bins = np.searchsorted(SIZES, sides, side="right")
    objects = np.bincount(bins, minlength=len(SIZES) + 1)
    hits = np.bincount(bins[found], minlength=len(SIZES) + 1)
    labels = [f"below {SIZES[0]}", *(f"{a} to {b}" for a, b in pairwise(SIZES)), f"{SIZES[-1]} on"]
    custom = [
        [int(hit), int(all_), f"{100 * hit / all_:.0f}%" if all_ else "-"]
        for hit, all_ in zip(hits, objects, strict=True)
    ]
    shared = {
        "type": "bar", "x": labels, "customdata": custom,
        "hovertemplate": "%{x} pixels: %{customdata[0]} of %{customdata[1]} objects found<extra></extra>",
    }  # fmt: skip
    return figure(
        [
            {**shared, "name": "found", "y": hits.tolist(), "marker": {"color": "var(--accent)"}},
            {
                **shared, "name": "missed", "y": (objects - hits).tolist(), "text": [row[2] for row in custom],
                "textposition": "outside", "cliponaxis": False,
                "marker": {"color": "var(--track)", "line": {"color": "var(--muted)", "width": 1}},
            },
        ],
        barmode="stack",
        showlegend=True,
        legend={"orientation": "h", "y": 1.04, "yanchor": "bottom"},
        xaxis=axis("side of the object, pixels", type="category"),
        yaxis=axis("objects", rangemode="tozero"),
    )  # fmt: skip


def summary(page: ProjectPage) -> str | None:
    """Return the mean average precisions with their intervals as a sentence; None of few images, or no object."""
    held = page.held
    if held is None or len(held.held) < FEW_RANDOM or not page.all_compared:
        return None
    values = page.of_holdout("box precision", lambda held: _precisions(page, held))
    if values is None:
        return None
    (ap50, low50, high50), (ap, low, high) = values
    return (
        f"As papers report it, of all boxes of {len(held.held):,} random images together: mAP50 {ap50:.2f} "
        f"({low50:.2f} to {high50:.2f}), mAP50:95 {ap:.2f} ({low:.2f} to {high:.2f}), with 95% intervals by bootstrap "
        f"over the images. The {page.status.metric.name} above is a mean over images, and of the boxes that are shown."
    )


def class_boxes(classes: Sequence[str], found: Sequence[Detections], threshold: float) -> list[ClassBoxes]:
    """Return how well the objects of each class are found, at most MAX_CLASSES of those that occur, in their order."""
    results = []
    for name, part in zip(classes, found, strict=True):
        shown, values = part.scores >= threshold, part.average_precision()
        results.append(
            ClassBoxes(
                name,
                int(part.objects.sum()),
                int((part.objects > 0).sum()),
                int(shown.sum()),
                int(part.hits[shown, 0].sum()),
                None if values is None else float(values[0]),
                None if values is None else float(values.mean()),
            )
        )
    weight = np.array([result.objects + result.shown for result in results], np.int64)
    kept = np.argsort(-weight, kind="stable")[:MAX_CLASSES]
    return [results[i] for i in np.sort(kept[weight[kept] > 0]).tolist()]


def _found(page: ProjectPage) -> list[Detections] | None:
    return page.of_holdout("boxes", _detected)


def _detected(held: PoolPredictions) -> list[Detections] | None:
    of = held.problem
    if not isinstance(of, Detection):
        return None
    return of.detected(held.outputs, held.held, of.encode(held.targets, held.classes), len(held.classes))


def _threshold(held: PoolPredictions) -> float:
    return float(held.decoding.get("threshold", DEFAULT_THRESHOLD))


def _precisions(page: ProjectPage, held: PoolPredictions) -> list[tuple[float, float, float]] | None:
    """Return mAP50 and mAP50:95, each with its interval; None without an object."""
    found = _found(page)
    values = mean_average_precision(found) if found is not None else None
    if found is None or values is None:
        return None
    low, high = np.quantile(bootstrapped(found, len(held.held)), [0.025, 0.975], axis=0)
    return [(value, float(low[i]), float(high[i])) for i, value in enumerate(values)]


def _curve(name: str, part: Detections, threshold: float, place: int) -> list[dict[str, Any]]:
    """Return the line of a class and the mark on it."""
    shown = int((part.scores >= threshold).sum())
    hits, given = np.cumsum(part.hits[:, 0]), np.arange(1, len(part.scores) + 1)
    points = np.unique(np.linspace(0, len(given) - 1, MAX_POINTS).round().astype(np.int64)) if len(given) else given
    if shown:
        points = np.union1d(points, [shown - 1])
    recall, precision = np.round(hits / part.objects.sum(), 4), np.round(hits / given, 4)
    colour, label = f"var(--k{place})", plain(name, 24)
    hover = f"{plain(name)}<br>recall %{{x:.2f}}, precision %{{y:.2f}}"
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "legendgroup": label,
        "x": recall[points].tolist(),
        "y": precision[points].tolist(),
        "line": {"color": colour, "width": 2, "dash": DASHES[place % len(DASHES)]},
        "customdata": np.round(part.scores[points].astype(np.float64), 3).tolist(),
        "hovertemplate": f"{hover}, from a score of %{{customdata:.2f}} on<extra></extra>",
    }
    mark = {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "legendgroup": label,
        "cliponaxis": False,
        "x": recall[shown - 1 : shown].tolist() if shown else [],
        "y": precision[shown - 1 : shown].tolist() if shown else [],
        "marker": {"color": colour, "size": 10},
        "hovertemplate": f"{hover} of the boxes shown, from {threshold:.2f} on<extra></extra>",
    }
    return [line, mark]


def _object_sizes(page: ProjectPage, held: PoolPredictions) -> tuple[FloatArray, BoolArray] | None:
    """Return the side of each object, the root of its area in pixels of its picture, and whether it is found."""
    of = held.problem
    if not isinstance(of, Detection):
        return None
    ids = {name: number for number, name in enumerate(held.classes)}
    sides: list[FloatArray] = [np.empty(0)]
    hit: list[BoolArray] = [np.empty(0, np.bool_)]
    shown = pictures(page, held.held.tolist())
    for boxes, target, picture in zip(held.predict(held.held), held.targets, shown, strict=True):
        given, wanted = as_arrays(boxes, ids), as_arrays(target, ids)
        found = match(*given, *wanted)
        sides.append(np.sqrt(wanted[0][:, 2:].prod(axis=1) * picture.width * picture.height))
        hit.append(np.isin(np.arange(len(target)), found))
    return np.concatenate(sides), np.concatenate(hit)
