"""The learning curve."""

from typing import Any

from backend.dashboard.figures.base import Figure, axis, figure
from backend.dashboard.project_page import ProjectView
from backend.dashboard.text import few


def draw(view: ProjectView) -> Figure | str:
    """Plot the quality on the holdout with its interval against labels."""
    entries = [entry for entry in view.data["history"] if entry["holdout_size"]]
    if not entries:
        return "The first point appears when the first round is labeled and its model is trained."
    accuracy = [100 * entry["quality"] for entry in entries]
    points = {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "x": [entry["labels"] for entry in entries],
        "y": accuracy,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * entry["interval"][1] - value for entry, value in zip(entries, accuracy, strict=True)],
            "arrayminus": [value - 100 * entry["interval"][0] for entry, value in zip(entries, accuracy, strict=True)],
            "color": "var(--accent-soft)",
            "thickness": 2,
            "width": 5,
        },
        "customdata": [
            [entry["round"] + 1, entry["holdout_size"], 100 * entry["interval"][0], 100 * entry["interval"][1]]
            for entry in entries
        ],
        "hovertemplate": "Round %{customdata[0]}, %{x} labels<br>%{y:.1f}% of %{customdata[1]} images"
        "<br>%{customdata[2]:.1f} to %{customdata[3]:.1f}%<extra></extra>",
        "marker": {
            "color": "var(--accent)",
            "size": 8,
            "symbol": ["circle-open" if few(entry["holdout_size"]) else "circle" for entry in entries],
        },
    }
    top = max(100 * entry["interval"][1] for entry in entries)
    bottom = min(100 * entry["interval"][0] for entry in entries)
    return figure(
        [points, _line(entries)],
        xaxis=axis("labels", rangemode="tozero"),
        yaxis=axis("right on random images, %", range=[max(bottom - 3, 0), min(top + 3, 101)]),
    )


def _line(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the points that are measured well enough: between the others a line would show noise as progress."""
    measured = [entry for entry in entries if not few(entry["holdout_size"])]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [entry["labels"] for entry in measured],
        "y": [100 * entry["quality"] for entry in measured],
        "line": {"color": "var(--accent)", "width": 2},
        "hoverinfo": "skip",
    }
