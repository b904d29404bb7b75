"""The learning curve."""

from typing import Any

from backend.dashboard.figures.base import Figure, axis, figure
from backend.dashboard.project_page import Entry, ProjectPage


def draw(page: ProjectPage) -> Figure | str:
    """Plot the mean quality on the holdout with its interval against labels."""
    entries = [entry for entry in page.history if entry.quality.size]
    if not entries:
        return "The first point appears when the first round is labeled and its model is trained."
    metric = page.status.metric
    scale, unit = metric.scale, metric.unit
    means = _means(entries, scale)
    lows, highs = ([scale * entry.quality.interval[side] for entry in entries] for side in (0, 1))
    digits = ".1f" if metric.counted else ".2f"
    points = {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "x": [entry.row.labels for entry in entries],
        "y": means,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [high - mean for high, mean in zip(highs, means, strict=True)],
            "arrayminus": [mean - low for low, mean in zip(lows, means, strict=True)],
            "color": "var(--accent-soft)",
            "thickness": 2,
            "width": 5,
        },
        "customdata": [
            [entry.row.number + 1, entry.quality.size, low, high]
            for entry, low, high in zip(entries, lows, highs, strict=True)
        ],
        "hovertemplate": f"Round %{{customdata[0]}}, %{{x}} labels<br>%{{y:{digits}}}{unit} "
        f"{'of' if metric.counted else 'on'} %{{customdata[1]}} images"
        f"<br>%{{customdata[2]:{digits}}} to %{{customdata[3]:{digits}}}{unit}<extra></extra>",
        "marker": {
            "color": "var(--accent)",
            "size": 8,
            "symbol": ["circle-open" if entry.quality.few else "circle" for entry in entries],
        },
    }
    margin = 0.03 * scale
    label = "right on random images, %" if metric.counted else f"{metric.name} on random images"
    return figure(
        [points, _line(entries, scale)],
        xaxis=axis("labels", rangemode="tozero"),
        yaxis=axis(label, range=[max(min(lows) - margin, 0), min(max(highs) + margin, 1.01 * scale)]),
    )


def _line(entries: list[Entry], scale: float) -> dict[str, Any]:
    """Return the line through the points that are measured well enough: between others it would show noise."""
    measured = [entry for entry in entries if not entry.quality.few]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [entry.row.labels for entry in measured],
        "y": _means(measured, scale),
        "line": {"color": "var(--accent)", "width": 2},
        "hoverinfo": "skip",
    }


def _means(entries: list[Entry], scale: float) -> list[float]:
    return [scale * (entry.quality.mean or 0.0) for entry in entries]
