"""The histogram of pretext losses, cut into batches."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from backend.dashboard.figures.base import Figure, axis, figure
from backend.dashboard.project_page import ProjectPage
from model.querying.outputs import FloatArray, IntArray

BINS = 60
COLOURS = 10  # that can be told apart; more batches share them in order
MAX_TICKS = 1500  # labeled images that are marked; more would be one grey bar
MARKS, BARS = [0, 0.07], [0.1, 1]  # shares of the height
SKEWED = 10  # times the median that the largest loss is, above which the axis is logarithmic
FLOOR = 1e-6  # where a logarithmic axis begins


@dataclass(frozen=True)
class LossAxis:
    """The axis of losses: linear, or logarithmic where one linear bin would hold nearly all of them."""

    logarithmic: bool

    @classmethod
    def of(cls, loss: FloatArray) -> "LossAxis":
        """Return the axis that fits how skewed the losses are."""
        return cls(bool(loss.min() >= 0 and loss.max() > SKEWED * np.median(loss)))

    def place(self, loss: FloatArray) -> FloatArray:
        """Return the places of losses."""
        return np.log10(np.maximum(loss, FLOOR)) if self.logarithmic else loss

    def values(self, places: FloatArray) -> FloatArray:
        """Return the losses at places."""
        return np.power(10.0, places) if self.logarithmic else places

    def ticks(self, low: float, high: float) -> dict[str, Any]:
        """Return the marks of a logarithmic axis: each power of ten and its triple."""
        if not self.logarithmic:
            return {}
        powers = [10.0**exponent for exponent in range(int(np.floor(low)), int(np.ceil(high)) + 1)]
        shown = [value * power for power in powers for value in (1, 3)]
        return {"tickvals": np.log10(shown).round(4).tolist(), "ticktext": [f"{value:.3g}" for value in shown]}


def draw(page: ProjectPage) -> Figure | str:
    """Draw the batches as stacked bars of a histogram, with a tick for each labeled image."""
    table = page.losses
    scored = np.isfinite(table.loss) & (table.batch >= 0)
    if not scored.any():
        return "Losses appear when the pretext model is trained, before any label."
    loss, batch = table.loss[scored].astype(np.float64), table.batch[scored]
    scale = LossAxis.of(loss)
    places = scale.place(loss)
    edges = np.histogram_bin_edges(places, BINS)
    labeled = places[np.isin(table.pool_index[scored], page.labeled)]
    low, high = float(edges[0]), float(edges[-1])
    return figure(
        [*_bars(places, batch, edges, scale, page.step), _ticks(labeled)],
        barmode="stack",
        bargap=0,
        showlegend=int(batch.max()) > 0,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        xaxis=axis("pretext loss", anchor="y2", range=[low, high], **scale.ticks(low, high)),
        yaxis=axis("images", domain=BARS),
        yaxis2={"domain": MARKS, "visible": False, "range": [-1, 1], "fixedrange": True},
    )


def group_batches(batches: int) -> IntArray:
    """Return the colour group (batches,) of each batch: neighbours share one where there are more than colours."""
    groups = min(batches, COLOURS)
    return np.arange(batches) * groups // batches


def _bars(places: FloatArray, batch: IntArray, edges: FloatArray, scale: LossAxis, step: int) -> list[dict[str, Any]]:
    groups = group_batches(int(batch.max()) + 1)
    last_group = int(groups.max())
    of_image = groups[batch]
    limits = [f"{value:.3g}" for value in scale.values(edges)]
    ranges = [f"{low} to {high}" for low, high in pairwise(limits)]
    traces = []
    for group in range(last_group + 1):
        members = np.flatnonzero(groups == group)
        first, last = int(members[0]), int(members[-1])
        counts, _ = np.histogram(places[of_image == group], edges)
        name = f"batch {first}" if first == last else f"batches {first} to {last}"
        traces.append(
            {
                "type": "bar",
                "name": name if group == 0 or first != last else str(first),
                "x": np.round((edges[:-1] + edges[1:]) / 2, 5).tolist(),
                "y": (step * counts).tolist(),
                "width": float(edges[1] - edges[0]),
                "marker": {"color": f"var(--s{_colour(group, last_group)})", "line": {"width": 0}},
                "customdata": ranges,
                "hovertemplate": f"{name}<br>loss %{{customdata}}: %{{y}} images<extra></extra>",
            }
        )
    return traces


def _colour(group: int, last: int) -> int:
    """Return a group's colour; few groups are spread over all colours."""
    return round(group * (COLOURS - 1) / last) if last else 0


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
