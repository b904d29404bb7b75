"""The report as one HTML page, with its pictures inside."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from model.data.atomic_files import write_atomically
from model.lab.report.chart import Chart

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
pre {{ overflow-x: auto; background: #f6f6f6; padding: 1rem; font-size: 12px; }}
p {{ margin: .2rem 0; color: #555; }}
img {{ display: block; max-width: 100%; margin: 2rem 0; }}
</style></head>
<body><h1>{title}</h1>
<p>{measured}</p>
<pre>{text}</pre>
{pictures}
</body></html>
"""


def write_page(
    path: Path, title: str, measured: str, text: str, charts: Sequence[Chart], pictures: Mapping[str, bytes]
) -> None:
    """Write the page: what was measured, the figures as text, and the picture of every chart.

    pictures: PNG files by the name of their chart.
    """
    images = [
        f'<img id="{escape(chart.name)}" alt="{escape(f"{chart.title}. {chart.note}")}" '
        f'src="data:image/png;base64,{b64encode(pictures[chart.name]).decode()}">'
        for chart in charts
    ]
    page = _PAGE.format(title=escape(title), measured=escape(measured), text=escape(text), pictures="\n".join(images))
    write_atomically(path, page.encode())
