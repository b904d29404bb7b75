"""Draw a chart with matplotlib."""

import io
from collections.abc import Callable
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from model.lab.report.chart import Chart, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, DPI = (8.0, 5.0), 120  # inches, dots per inch
NOTE = 130  # characters of a line of the note
LETTER = 0.062  # inches that a character of the legend is wide


def draw(chart: Chart) -> bytes:
    """Return the chart as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needs no window and no global state
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    legend = chart.kind != "cells" and len(chart.traces) > 1
    # The legend stands beside the axes: inside them it would hide curves.
    wider = 0.6 + LETTER * max(len(trace.name) for trace in chart.traces) if legend else 0.0
    figure = Figure(figsize=(SIZE[0] + wider, SIZE[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _DRAW[chart.kind](axes, chart)
    axes.set_title(chart.title, fontsize=12, loc="left")
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.zero:
        axes.axhline(0, color="black", linewidth=0.8)
    if chart.whole and chart.kind != "bars":  # bars have a tick each
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if legend:
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.supxlabel(fill(chart.note, NOTE), fontsize=8, color="#555555")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _lines(axes: "Axes", chart: Chart) -> None:
    for trace in chart.traces:
        x, y = np.asarray(trace.x, np.float64), np.asarray(trace.y, np.float64)
        axes.plot(x, y, color=trace.colour, linestyle=trace.dash, marker=trace.marker, markersize=3, label=trace.name)
        if trace.spread is not None:
            spread = np.asarray(trace.spread)
            axes.fill_between(x, y - spread, y + spread, color=trace.colour, alpha=0.15, linewidth=0)


def _points(axes: "Axes", chart: Chart) -> None:
    for number, trace in enumerate(chart.traces):
        x, y = np.asarray(trace.x, np.float64), np.asarray(trace.y, np.float64)
        size = 5 if number == 0 else 14  # the first trace is the background
        axes.scatter(x, y, s=size, color=trace.colour, marker=trace.marker, alpha=0.7, linewidths=0, label=trace.name)


def _bars(axes: "Axes", chart: Chart) -> None:
    width = 0.8 / len(chart.traces)
    for number, trace in enumerate(chart.traces):
        places = np.arange(len(trace.x)) + (number - (len(chart.traces) - 1) / 2) * width
        axes.bar(places, np.asarray(trace.y, np.float64), width, color=trace.colour, label=trace.name)
    axes.set_xticks(np.arange(len(chart.traces[0].x)), [str(x) for x in chart.traces[0].x])


def _cells(axes: "Axes", chart: Chart) -> None:
    trace: Trace = chart.traces[0]
    values = np.asarray(trace.values, np.float64)
    axes.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(np.arange(len(trace.x)), [str(x) for x in trace.x], rotation=30, ha="right", fontsize=8)
    axes.set_yticks(np.arange(len(trace.y)), [str(y) for y in trace.y], fontsize=8)
    for row, column in np.ndindex(*values.shape):
        shade = "white" if values[row, column] > 60 else "black"
        axes.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", fontsize=8, color=shade)


_DRAW: dict[str, Callable[["Axes", Chart], None]] = {
    "line": _lines,
    "points": _points,
    "bars": _bars,
    "cells": _cells,
}
