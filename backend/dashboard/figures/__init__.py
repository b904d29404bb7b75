"""The figures, each as Plotly's JSON: one function of a project a file."""

from collections.abc import Callable
from dataclasses import dataclass

from backend.dashboard.figures import balance, boxes, classes, confusion, curve, losses, pixels, pool_map, reliability
from backend.dashboard.figures.base import Figure
from backend.dashboard.project_page import ProjectPage
from backend.status.measured import Metric


@dataclass(frozen=True)
class FigureInfo:
    """A figure.

    explanation: stands below the title; ``{metric}`` is the name of the project's metric. draw: returns Plotly's JSON,
    or a sentence that says what the figure waits for. of_means: the explanation where predictions are not right or
    wrong, if it is another one. wide: whether it takes the whole width of the page. says: returns a sentence for the
    findings, None while there is nothing to say.
    """

    title: str
    explanation: str
    draw: Callable[[ProjectPage], Figure | str]
    of_means: str | None = None
    wide: bool = False
    says: Callable[[ProjectPage], str | None] | None = None

    def explain(self, metric: Metric) -> str:
        """Return the explanation for a metric."""
        text = self.explanation if metric.counted or self.of_means is None else self.of_means
        return text.format(metric=metric.title)


FIGURES: dict[str, FigureInfo] = {
    "curve": FigureInfo(
        "Learning curve",
        "{metric} on random images that the model was never trained on, against the labels it was trained on. "
        "Bars are 95% intervals; a hollow point rests on fewer than 10 images and says little.",
        curve.draw,
    ),
    "losses": FigureInfo(
        "Pretext losses",
        "How hard the self-supervised task finds the images, cut into batches. Ticks below mark labeled images.",
        losses.draw,
    ),
    "balance": FigureInfo(
        "Classes asked",
        "What the asked images turned out to be, round by round, beside the random ones.",
        balance.draw,
    ),
    "classes": FigureInfo(
        "Classes on random images",
        "How well the newest model finds each class. Precision: how many of the images that it gives the class have "
        "it. Recall: how many of the images with the class it finds. It gives a class from its threshold on.",
        classes.draw,
    ),
    "confusion": FigureInfo(
        "Confusion on random images",
        "Rows: what annotators said. Columns: what the newest model says.",
        confusion.draw,
    ),
    "pixels": FigureInfo(
        "Classes on random images, by pixels",
        "IoU: the pixels that both the annotators and the newest model give the class, as a share of those that either "
        "does, summed over the images. Images: those in which annotators gave it.",
        pixels.draw,
        says=pixels.summary,
    ),
    "pixel_confusion": FigureInfo(
        "Confusion on random images, by pixels",
        "Rows: what annotators painted. Columns: what the newest model says, in percent of the row's pixels.",
        pixels.draw_confusion,
    ),
    "boxes": FigureInfo(
        "Classes on random images, by boxes",
        "AP: average precision, of all boxes in the order of their scores, at an overlap of 0.5 and over 0.5 to 0.95. "
        "Precision and recall: of the boxes that are shown to annotators.",
        boxes.draw,
        says=boxes.summary,
    ),
    "box_curves": FigureInfo(
        "Precision and recall on random images",
        "What each class would reach if boxes were shown from another score on. Dots: from the score that is used.",
        boxes.draw_curves,
    ),
    "box_sizes": FigureInfo(
        "Sizes of objects on random images",
        "How many objects of each size the boxes shown find, as a share above the bars. A side is the root of an area, "
        "in pixels of the picture that the model sees.",
        boxes.draw_sizes,
    ),
    "reliability": FigureInfo(
        "Is its confidence honest?",
        "On the line, images that the model is 80% sure of are right 80% of the time. Below it the model is too sure.",
        reliability.draw,
        of_means="On the line, images whose {metric} the model expects to be 0.80 reach 0.80 on average. Below it the "
        "model is too sure.",
    ),
    "map": FigureInfo(
        "Map of all images",
        "Images that look alike to the newest model lie together. Point at one to see it; click to open its task.",
        pool_map.draw,
        wide=True,
    ),
}


def figure_rows(page: ProjectPage) -> list[list[str]]:
    """Return the names of a project's figures, as its problem orders them: a row of one or two of them each."""
    rows: list[list[str]] = []
    for name in page.problem.figures:
        wide = FIGURES[name].wide
        if rows and not wide and len(rows[-1]) == 1 and len(rows) > 1 and not FIGURES[rows[-1][0]].wide:
            rows[-1].append(name)
        else:
            rows.append([name])  # the first one stands beside the findings
    return rows
