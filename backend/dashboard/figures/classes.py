"""How well the newest model finds each class on the holdout, for problems with several classes an image."""

from dataclasses import dataclass

import numpy as np

from backend.dashboard.figures.base import Figure, figure, heat_map, names, plain
from backend.dashboard.figures.confusion import WAITING
from backend.dashboard.project_page import ProjectPage
from backend.status.predictions import PoolPredictions

MAX_CLASSES = 40  # rows; of more, those with most images
COLUMNS = ("images", "precision", "recall", "F1", "threshold")
SHADED = ("precision", "recall", "F1")


@dataclass(frozen=True)
class ClassResult:
    """One class on the holdout.

    images: that have it. predicted: that the model gives it. hits: both. threshold: probability from which the model
    gives it, None where the model has none.
    """

    name: str
    images: int
    predicted: int
    hits: int
    threshold: float | None

    @property
    def precision(self) -> float | None:
        """The share of ``predicted`` that has the class; None where the model never gives it."""
        return self.hits / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """The share of ``images`` that the model finds; None where no image has the class."""
        return self.hits / self.images if self.images else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None where no image has the class and the model never gives it."""
        return 2 * self.hits / (self.images + self.predicted) if self.images + self.predicted else None


def draw(page: ProjectPage) -> Figure | str:
    """Draw a table: a row a class, its rates shaded."""
    if page.held is None:
        return WAITING
    results = class_results(page.held)
    cells = [[_cells(result)[column] for column in COLUMNS] for result in results]
    shades = [[_shade(column, text) for column, text in zip(COLUMNS, row, strict=True)] for row in cells]
    trace = heat_map(
        list(COLUMNS),
        names([result.name for result in results]),
        shades,
        cells,
        zmax=100,
        customdata=[
            [[plain(result.name), result.images, result.predicted, result.hits]] * len(COLUMNS) for result in results
        ],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]} images have it, the model gives it to %{customdata[2]}, "
        "%{customdata[3]} of them right<extra></extra>",
    )
    return figure(
        [trace | {"text": cells, "texttemplate": "%{text}"}],
        xaxis={"type": "category", "automargin": True, "side": "top"},
        yaxis={"type": "category", "automargin": True, "autorange": "reversed"},
    )


def class_results(held: PoolPredictions) -> list[ClassResult]:
    """Return how well each class is found on the labeled holdout, at most MAX_CLASSES in their order."""
    truth = np.asarray(held.problem.encode(held.targets, held.classes)) > 0.5  # (h, C)
    given = np.asarray(held.problem.encode(held.predict(held.held), held.classes)) > 0.5
    thresholds = held.decoding.get("thresholds") or [None] * len(held.classes)
    images, predicted, hits = truth.sum(axis=0), given.sum(axis=0), (truth & given).sum(axis=0)
    shown = np.sort(np.argsort(-(images + predicted), kind="stable")[:MAX_CLASSES])
    return [
        ClassResult(held.classes[i], int(images[i]), int(predicted[i]), int(hits[i]), thresholds[i])
        for i in shown.tolist()
    ]


def _cells(result: ClassResult) -> dict[str, str]:
    return {
        "images": f"{result.images:,}",
        "precision": number(result.precision),
        "recall": number(result.recall),
        "F1": number(result.f1),
        "threshold": number(result.threshold),
    }


def number(value: float | None) -> str:
    """Return a rate or threshold as text."""
    return "-" if value is None else f"{value:.2f}"


def _shade(column: str, text: str) -> float:
    return round(100 * float(text), 1) if column in SHADED and text != "-" else 0.0
