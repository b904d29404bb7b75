"""How the newest model's masks fit those of the holdout: each class, and which it takes for which, by pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.dashboard.figures.base import Figure, axis, figure, heat_map, names, plain
from backend.dashboard.figures.classes import number
from backend.dashboard.figures.confusion import MAX_CLASSES, WAITING
from backend.dashboard.project_page import ProjectPage
from backend.status.measured import FEW_RANDOM
from model.evaluation.pixels import Counts, class_iou, interval, mean_iou, weighted_iou
from model.problems.segmentation import Segmentation
from model.querying.outputs import IntArray

COLUMNS = ("IoU", "precision", "recall", "pixels", "images")
SHADED = 3  # of the columns, the first ones
BACKGROUND = "background"


@dataclass(frozen=True)
class ClassArea:
    """One class on the holdout.

    pixels, predicted, hits: that annotators gave it, that the model gives it, and both. images: that have any of the
    first.
    """

    name: str
    pixels: int
    predicted: int
    hits: int
    images: int
    iou: float | None

    @property
    def rates(self) -> list[float | None]:
        """Intersection over union, precision and recall; None where there is nothing to divide by."""
        precision = self.hits / self.predicted if self.predicted else None
        return [self.iou, precision, self.hits / self.pixels if self.pixels else None]


def draw(page: ProjectPage) -> Figure | str:
    """Draw a table: a row a class, its rates shaded."""
    if page.held is None:
        return WAITING
    areas = class_areas(page.held.classes, counts_of(page))
    cells = [[*map(number, area.rates), f"{area.pixels:,}", f"{area.images:,}"] for area in areas]
    shades = [[*(100 * (rate or 0.0) for rate in area.rates), 0.0, 0.0] for area in areas]
    trace = heat_map(list(COLUMNS), names([area.name for area in areas]), shades, cells, zmax=100, hoverinfo="skip")
    return figure(
        [trace | {"text": cells, "texttemplate": "%{text}"}],
        xaxis={"type": "category", "automargin": True, "side": "top"},
        yaxis={"type": "category", "automargin": True, "autorange": "reversed"},
    )


def draw_confusion(page: ProjectPage) -> Figure | str:
    """Draw true against predicted classes, as shares of the true pixels."""
    if page.held is None:
        return WAITING
    counts = _total(counts_of(page))
    shown = _most_frequent(counts)
    counts, classes = counts[np.ix_(shown, shown)], [[BACKGROUND, *page.held.classes][i] for i in shown.tolist()]
    shares = np.round(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), 1)
    labels = names(classes)
    trace = heat_map(
        labels,
        labels,
        shares.tolist(),
        [[f"{value:.0f}" if value >= 0.5 else "" for value in row] for row in shares],
        zmax=100,
        customdata=[[[plain(true), plain(predicted)] for predicted in classes] for true in classes],
        hovertemplate="%{z:.1f}% of the pixels of %{customdata[0]}<br>taken for %{customdata[1]}<extra></extra>",
    )
    return figure(
        [trace],
        xaxis=axis("model", type="category"),
        yaxis=axis("annotators", type="category", autorange="reversed"),
    )


def summary(page: ProjectPage) -> str | None:
    """Return the mean IoU of the summed pixels with its interval as a sentence; None of few images, or no class."""
    if page.held is None or len(page.held.held) < FEW_RANDOM or not page.all_compared:
        return None
    compared = counts_of(page)
    total = _total(compared)
    if not total[1:].sum():
        return None
    low, high = page.of_holdout("pixel interval", lambda _: interval(compared)) or (0.0, 1.0)
    return (
        f"As papers report it, of all pixels of {len(compared):,} random images together: mIoU "
        f"{float(mean_iou(total)):.2f} ({low:.2f} to {high:.2f}, a 95% interval by bootstrap over the images), and "
        f"{weighted_iou(total):.2f} with each class weighted by its pixels. The {page.status.metric.name} above is a "
        "mean over images, of the classes of each."
    )


def counts_of(page: ProjectPage) -> list[Counts]:
    """Return the count of each image of the holdout, in the order of ``held.held``; none where there are no masks."""
    return page.compared() if isinstance(page.problem, Segmentation) else []


def class_areas(classes: Sequence[str], counts: list[Counts]) -> list[ClassArea]:
    """Return how well each class fits, at most MAX_CLASSES of those that occur, in their order."""
    total = _total(counts)
    iou = class_iou(total)
    images = (np.stack(counts).sum(axis=2) > 0).sum(axis=0)
    return [
        ClassArea(
            classes[i - 1],
            int(total[i].sum()),
            int(total[:, i].sum()),
            int(total[i, i]),
            int(images[i]),
            None if np.isnan(iou[i - 1]) else float(iou[i - 1]),
        )
        for i in _most_frequent(total).tolist()
        if i > 0
    ]


def _total(counts: Sequence[Counts]) -> Counts:
    return np.asarray(np.sum(np.stack(counts), axis=0), np.int64)


def _most_frequent(counts: Counts) -> IntArray:
    """Return the rows of the classes that occur, the background among them, ascending; of many the most frequent."""
    weight = counts.sum(axis=0) + counts.sum(axis=1)
    kept = np.argsort(-weight, kind="stable")[: MAX_CLASSES + 1]
    return np.sort(kept[weight[kept] > 0])
