"""The learning curve."""

from backend.web.dashboard.figures.base import Figure, axis, figure
from backend.web.dashboard.view import ProjectView


def draw(view: ProjectView) -> Figure | str:
    """Plot holdout accuracy with its interval against labels."""
    entries = [entry for entry in view.data["history"] if entry["holdout_size"]]
    if not entries:
        return "The first point appears when the first round is labeled and its model is trained."
    accuracy = [100 * entry["holdout_accuracy"] for entry in entries]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
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
        "line": {"color": "var(--accent)", "width": 2},
        "marker": {"color": "var(--accent)", "size": 8},
    }
    top = max(100 * entry["interval"][1] for entry in entries)
    bottom = min(100 * entry["interval"][0] for entry in entries)
    return figure(
        [trace],
        xaxis=axis("labels", rangemode="tozero"),
        yaxis=axis("holdout accuracy, %", range=[max(bottom - 3, 0), min(top + 3, 101)]),
    )
