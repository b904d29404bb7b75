"""Draw results: ``python -m model.report results.json``.

Takes what ``model.simulate`` and ``model.h1`` wrote, and leaves PNG files and one HTML page.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from model import h1
from model.curves import Row, summarize, table
from model.errors import BadInput, ModelError
from model.report import asked, curves, ranks
from model.report.chart import Chart
from model.report.page import write_page
from model.report.picture import write_png


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        for path in given.results:
            folder = given.out / path.stem if given.out and len(given.results) > 1 else given.out
            print(report(path, folder or path.with_suffix(".report"), given.device))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def report(path: Path, folder: Path, device: str = "auto") -> Path:
    """Draw the results in ``path`` into ``folder`` and return the page; raise BadInput where they are no results."""
    rows = _read(path)
    work = path.with_suffix(".work")
    found: list[Chart]
    if "task" in rows[0]:
        measured = cast(list[h1.Row], rows)
        found, text = ranks.charts(measured, work), h1.table(measured)
    else:
        simulated = cast(list[Row], rows)
        found = [*curves.charts(simulated), *asked.charts(simulated, work, device)]
        text = table(summarize(simulated))
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    write_page(page, path.stem, _about(work), found, text)
    for chart in found:
        write_png(chart, folder)
    return page


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(f"there are no results at {path}") from error
    except ValueError as error:
        raise BadInput(f"{path} is no results file: {error}") from error
    known = isinstance(rows, list) and all(isinstance(row, dict) and {"task", "strategy"} & set(row) for row in rows)
    if not known or not rows:
        raise BadInput(f"{path} holds no results of model.simulate or model.h1")
    return cast(list[dict[str, Any]], rows)


def _about(work: Path) -> str:
    """Say what the results were measured on, where that is noted."""
    noted = work / "setting.json"
    setting = json.loads(noted.read_text()) if noted.exists() else {}
    return ", ".join(f"{name} {value}" for name, value in setting.items() if value not in (None, False, 0.0))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.report", description="Draw what model.simulate or model.h1 measured, as PNG and HTML."
    )
    parser.add_argument("results", type=Path, nargs="+", help="JSON files that they wrote")
    parser.add_argument("--out", type=Path, help="folder of the pictures (default: beside the results)")
    parser.add_argument("--device", default="auto", help="where features for the map are computed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
