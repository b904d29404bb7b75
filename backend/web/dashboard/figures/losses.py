"""The histogram of pretext losses, cut into batches."""

from typing import Any

import numpy as np

from backend.web.dashboard.figures.base import Figure, axis, figure
from backend.web.dashboard.view import ProjectView
from model.outputs import FloatArray, IntArray

BINS = 60
MAX_GROUPS = 10  # colours that can be told apart; more batches share them in order
MAX_TICKS = 1500  # labeled images that are marked; more would be one grey bar
MARKS, BARS = [0, 0.07], [0.1, 1]  # shares of the height


def draw(view: ProjectView) -> Figure | str:
    """Stack the batches in a histogram, with a tick for each labeled image."""
    table = view.losses
    scored = np.isfinite(table.loss) & (table.batch >= 0)
    if not scored.any():
        return "Losses appear when the pretext model is trained, before any label."
    loss, batch = table.loss[scored].astype(np.float64), table.batch[scored]
    edges = np.histogram_bin_edges(loss, BINS)
    labeled = loss[np.isin(table.pool_index[scored], view.labeled)]
    return figure(
        [*_bars(loss, batch, edges, view.step), _ticks(labeled)],
        barmode="stack",
        bargap=0,
        showlegend=int(batch.max()) > 0,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        xaxis=axis("pretext loss", anchor="y2"),
        yaxis=axis("images", domain=BARS),
        yaxis2={"domain": MARKS, "visible": False, "range": [-1, 1], "fixedrange": True},
    )


def group_batches(batches: int) -> IntArray:
    """Give the colour group (batches,) of each batch: neighbours share one where there are more than colours."""
    groups = min(batches, MAX_GROUPS)
    return np.arange(batches) * groups // batches


def _bars(loss: FloatArray, batch: IntArray, edges: FloatArray, step: int) -> list[dict[str, Any]]:
    groups = group_batches(int(batch.max()) + 1)
    of_image = groups[batch]
    traces = []
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        first, last = int(members[0]), int(members[-1])
        counts, _ = np.histogram(loss[of_image == group], edges)
        name = f"batch {first}" if first == last else f"batches {first} to {last}"
        traces.append(
            {
                "type": "bar",
                "name": name if group == 0 or first != last else str(first),
                "x": np.round((edges[:-1] + edges[1:]) / 2, 5).tolist(),
                "y": (step * counts).tolist(),
                "width": float(edges[1] - edges[0]),
                "marker": {"color": f"var(--s{group})", "line": {"width": 0}},
                "hovertemplate": f"{name}<br>loss %{{x:.3g}}: %{{y}} images<extra></extra>",
            }
        )
    return traces


def _ticks(labeled: FloatArray) -> dict[str, Any]:
    shown = np.sort(labeled)
    if len(shown) > MAX_TICKS:
        shown = shown[np.linspace(0, len(shown) - 1, MAX_TICKS).astype(np.int64)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "labeled",
        "showlegend": False,
        "x": np.round(shown, 4).tolist(),
        "y": [0] * len(shown),
        "yaxis": "y2",
        "marker": {"symbol": "line-ns-open", "size": 9, "color": "var(--labeled)", "opacity": 0.6},
        "hoverinfo": "skip",
    }
