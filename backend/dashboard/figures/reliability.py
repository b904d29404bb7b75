"""The reliability diagram: confidence against quality on the holdout."""

from dataclasses import dataclass

import numpy as np

from backend.dashboard.figures.base import Figure, axis, figure
from backend.dashboard.figures.confusion import WAITING
from backend.dashboard.project_page import ProjectPage
from backend.status.predictions import PoolPredictions
from model.evaluation.metrics import mean_interval
from model.querying.outputs import FloatArray

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """The holdout images of one range of confidence; quality, squares: sums of the qualities and of their squares."""

    confidence: float  # mean
    images: int
    quality: float
    squares: float


def draw(page: ProjectPage) -> Figure | str:
    """Plot mean quality with its interval against mean confidence, bin by bin."""
    if page.held is None:
        return WAITING
    filled, metric = bins(page.held, page.held_quality), page.status.metric
    scale, unit = metric.scale, metric.unit
    label, digits = ("right", ".0f") if metric.counted else (f"mean {metric.name}", ".2f")
    mean = [scale * part.quality / part.images for part in filled]
    intervals = [mean_interval(part.quality, part.squares, part.images) for part in filled]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, scale],
        "y": [0, scale],
        "line": {"color": "var(--muted)", "dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "x": [round(scale * part.confidence, 4) for part in filled],
        "y": [round(value, 4) for value in mean],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [scale * high - value for (_, high), value in zip(intervals, mean, strict=True)],
            "arrayminus": [value - scale * low for (low, _), value in zip(intervals, mean, strict=True)],
            "color": "var(--accent-soft)",
            "thickness": 2,
            "width": 4,
        },
        "customdata": [[part.images] for part in filled],
        "hovertemplate": f"confidence %{{x:{digits}}}{unit}, {label} %{{y:{digits}}}{unit}<br>"
        "%{customdata[0]} images<extra></extra>",
        "marker": {"color": "var(--accent)", "size": _sizes([part.images for part in filled])},
    }
    return figure(
        [line, dots],
        xaxis=axis(_titled("confidence", unit), range=[0, 1.04 * scale]),
        yaxis=axis(_titled(label, unit), range=[-0.04 * scale, 1.04 * scale]),
    )


def bins(held: PoolPredictions, quality: FloatArray) -> list[ReliabilityBin]:
    """Return the holdout, of quality (h,), in ten ranges of confidence, as the expected calibration error has them.

    None of them is empty.
    """
    confidence = held.confidence(held.held).astype(np.float64)
    bin_of = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return [
        ReliabilityBin(
            confidence=float(confidence[inside].mean()),
            images=int(inside.sum()),
            quality=float(quality[inside].sum()),
            squares=float((quality[inside] ** 2).sum()),
        )
        for inside in (bin_of == number for number in range(BINS))
        if inside.any()
    ]


def _titled(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name


def _sizes(images: list[int]) -> list[float]:
    """Return diameters of dots whose area grows with their images, 6 to 20 pixels."""
    most = max(images)
    return [round(6 + 14 * float(np.sqrt(number / most)), 1) for number in images]
