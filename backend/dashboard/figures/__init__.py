"""The figures, each as Plotly's JSON: one function of a project a file."""

from collections.abc import Callable
from dataclasses import dataclass

from backend.dashboard.figures import balance, confusion, curve, losses, pool_map, reliability
from backend.dashboard.figures.base import Figure
from backend.dashboard.project_page import ProjectView


@dataclass(frozen=True)
class FigureInfo:
    """A figure: ``draw`` gives Plotly's JSON, or a sentence that says what it waits for."""

    title: str
    says: str
    draw: Callable[[ProjectView], Figure | str]


FIGURES: dict[str, FigureInfo] = {
    "curve": FigureInfo(
        "Learning curve",
        "Accuracy on random images that the model was never trained on, against the labels it was trained on. "
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
    "confusion": FigureInfo(
        "Confusion on random images",
        "Rows: what annotators said. Columns: what the newest model says.",
        confusion.draw,
    ),
    "reliability": FigureInfo(
        "Is its confidence honest?",
        "On the line, images that the model is 80% sure of are right 80% of the time. Below it the model is too sure.",
        reliability.draw,
    ),
    "map": FigureInfo(
        "Map of all images",
        "Images that look alike to the newest model lie together. Point at one to see it; click to open its task.",
        pool_map.draw,
    ),
}
