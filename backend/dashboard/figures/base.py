"""What the figures have in common.

Plotly's Python package is not imported: it takes a second, and JSON is all that the browser needs. Colours are names of
CSS variables, which the page's script replaces by their values, so that one figure serves light and dark.
"""

from html import escape
from typing import Any

Figure = dict[str, Any]

MAX_NAME = 24  # characters of a class name on an axis
PATH = " / "  # between the parts of a class that is a path
MAX_TEXT_CELLS = 240  # of a heat map; numbers in more would be too small to read


def figure(traces: list[dict[str, Any]], **layout: Any) -> Figure:
    """Return a figure of ``traces``."""
    return {"data": traces, "layout": {"showlegend": False, "hovermode": "closest", **layout}}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title, "standoff": 12}, "automargin": True, **more}


def plain(text: str, limit: int = 200) -> str:
    """Return a text that is safe where Plotly would read markup, and short."""
    short = text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return escape(short)


def names(classes: list[str]) -> list[str]:
    """Return class names as axis labels, each a different one: equal labels would fall onto one place of the axis.

    Of a long path its end is shown, which tells it from others.
    """
    seen: dict[str, int] = {}
    labels = []
    for name in classes:
        label = _end_of(name) if PATH in name and len(name) > MAX_NAME else plain(name, MAX_NAME)
        seen[label] = seen.get(label, 0) + 1
        labels.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return labels


def heat_map(x: list[str], y: list[str], percents: list[list[float]], counts: list[list[Any]], **more: Any) -> Figure:
    """Return a heat map's trace: shaded by ``percents``, with ``counts`` written into the cells while they fit."""
    trace = {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": percents,
        "colorscale": [[0, "var(--heat-0)"], [1, "var(--heat-1)"]],
        "zmin": 0,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
        **more,
    }
    if len(x) * len(y) <= MAX_TEXT_CELLS:
        trace |= {"text": counts, "texttemplate": "%{text}"}
    return trace


def _end_of(name: str) -> str:
    return escape("\N{HORIZONTAL ELLIPSIS}" + name[-(MAX_NAME - 1) :])
