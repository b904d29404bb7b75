"""The reliability diagram: confidence against accuracy on the holdout."""

from dataclasses import dataclass

import numpy as np

from backend.dashboard.figures.base import Figure, axis, figure
from backend.dashboard.figures.confusion import WAITING
from backend.dashboard.project_page import Holdout, ProjectView
from model.evaluation.metrics import wilson_interval

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """The holdout images of one range of confidence."""

    confidence: float  # mean
    images: int
    right: int


def draw(view: ProjectView) -> Figure | str:
    """Plot accuracy with its interval against mean confidence, bin by bin."""
    if view.holdout is None:
        return WAITING
    found = bins(view.holdout)
    share = [100 * one.right / one.images for one in found]
    intervals = [wilson_interval(one.right, one.images) for one in found]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 100],
        "y": [0, 100],
        "line": {"color": "var(--muted)", "dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "x": [round(100 * one.confidence, 2) for one in found],
        "y": [round(value, 2) for value in share],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * high - value for (_, high), value in zip(intervals, share, strict=True)],
            "arrayminus": [value - 100 * low for (low, _), value in zip(intervals, share, strict=True)],
            "color": "var(--accent-soft)",
            "thickness": 2,
            "width": 4,
        },
        "customdata": [[one.images] for one in found],
        "hovertemplate": "confidence %{x:.0f}%, right %{y:.0f}%<br>%{customdata[0]} images<extra></extra>",
        "marker": {"color": "var(--accent)", "size": _sizes([one.images for one in found])},
    }
    return figure(
        [line, dots],
        xaxis=axis("confidence, %", range=[0, 104]),
        yaxis=axis("right, %", range=[-4, 104]),
    )


def bins(held: Holdout) -> list[ReliabilityBin]:
    """Sort the holdout into ten ranges of confidence, as the expected calibration error does; empty ones left out."""
    confidence = held.probs.max(axis=1).astype(np.float64)
    right = held.guesses == held.truth
    bin_of = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return [
        ReliabilityBin(float(confidence[inside].mean()), int(inside.sum()), int(right[inside].sum()))
        for inside in (bin_of == number for number in range(BINS))
        if inside.any()
    ]


def _sizes(images: list[int]) -> list[float]:
    """Give dots an area that grows with their images, between 6 and 20 pixels across."""
    most = max(images)
    return [round(6 + 14 * float(np.sqrt(number / most)), 1) for number in images]
