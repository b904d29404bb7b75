"""Charts as one HTML page that needs nothing beside it: Plotly's script is inside."""

import json
from collections.abc import Sequence
from html import escape
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from model.data.atomic_files import write_atomically
from model.lab.report.chart import Chart, Trace

SCRIPT = "plotly/package_data/plotly.min.js"  # of the Python package, which need not be imported for it
MOST_TICKS = 30

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
pre {{ overflow-x: auto; background: #f6f6f6; padding: 1rem; font-size: 12px; }}
h2 {{ margin: 2.5rem 0 0; font-size: 1.2rem; }}
p {{ margin: .2rem 0; color: #555; }}
.chart {{ height: 28rem; }}
</style>
<script>{script}</script></head>
<body><h1>{title}</h1>
{sections}
<script>
for (const chart of {charts}) Plotly.newPlot(chart.id, chart.data, chart.layout, {{responsive: true}});
</script>
</body></html>
"""


def write_page(path: Path, title: str, about: str, charts: Sequence[Chart], text: str) -> None:
    """Write the page: what was measured (``about``), the figures as ``text``, then every chart."""
    figures = [{"id": chart.name, "data": _traces(chart), "layout": _layout(chart)} for chart in charts]
    sections = [f"<p>{escape(about)}</p><pre>{escape(text)}</pre>"]
    for chart in charts:
        note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
        sections.append(f'<h2>{escape(chart.title)}</h2>{note}<div class="chart" id="{chart.name}"></div>')
    package = distribution("plotly")
    page = _PAGE.format(
        title=escape(title),
        script=Path(str(package.locate_file(SCRIPT))).read_text(),
        sections="\n".join(sections),
        charts=json.dumps(figures).replace("</", "<\\/"),  # nothing in it can end the script
    )
    write_atomically(path, page.encode())


def _layout(chart: Chart) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": chart.x}, "automargin": True, "type": "category" if chart.kind == "cells" else "-"}
        | ({"tickformat": "d", **_ticks(chart)} if chart.whole else {}),
        "yaxis": {"title": {"text": chart.y}, "automargin": True, "zeroline": chart.zero}
        | ({"autorange": "reversed", "type": "category"} if chart.kind == "cells" else {}),
        "margin": {"t": 20, "r": 10},
        "barmode": "group",
        "hovermode": "closest",
        "showlegend": chart.kind != "cells" and len(chart.traces) > 1,
        "plot_bgcolor": "#fff",
    }


def _ticks(chart: Chart) -> dict[str, Any]:
    """Return a tick a whole number, where there are not too many of them for that."""
    places = {x for trace in chart.traces for x in trace.x}
    return {"dtick": 1} if len(places) <= MOST_TICKS else {}


def _traces(chart: Chart) -> list[dict[str, Any]]:
    return [part for number, trace in enumerate(chart.traces) for part in _parts(chart, trace, number)]


def _parts(chart: Chart, trace: Trace, number: int) -> list[dict[str, Any]]:
    common = {"name": escape(trace.name), "x": list(trace.x), "y": list(trace.y)}
    if chart.kind == "cells":
        cells = [[round(value, 1) for value in row] for row in trace.values or []]
        return [{
            "type": "heatmap", "x": common["x"], "y": common["y"], "z": cells, "zmin": 0, "zmax": 100,
            "colorscale": [[0, "#f7fbff"], [1, "#08306b"]], "texttemplate": "%{z:.0f}", "showscale": False,
        }]  # fmt: skip
    if chart.kind == "bars":
        return [{"type": "bar", "marker": {"color": trace.colour}, **common}]
    if chart.kind == "points":
        marker = {"color": trace.colour, "size": 3 if number == 0 else 6, "symbol": trace.marker}
        return [{"type": "scattergl", "mode": "markers", "marker": marker, **common}]
    line = {
        "type": "scatter", "mode": "lines+markers", "line": {"color": trace.colour, "dash": trace.dash},
        "marker": {"symbol": trace.marker}, "legendgroup": trace.name,
    }  # fmt: skip
    return [*_band(trace), line | common]


def _band(trace: Trace) -> list[dict[str, Any]]:
    """Return the area between mean minus spread and mean plus spread."""
    if trace.spread is None:
        return []
    mean = [float(y) for y in trace.y]
    low = [y - half for y, half in zip(mean, trace.spread, strict=True)]
    high = [y + half for y, half in zip(mean, trace.spread, strict=True)]
    return [{
        "type": "scatter", "mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": trace.colour + "26",
        "x": [*trace.x, *reversed(trace.x)], "y": [*low, *reversed(high)], "hoverinfo": "skip", "showlegend": False,
        "legendgroup": trace.name,
    }]  # fmt: skip
