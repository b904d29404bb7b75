"""Draw results: ``python -m model.report results.json``.

Reads what ``model.simulate`` and ``model.h1`` wrote; writes a PNG file for each chart, and an HTML page of all charts.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, cast

from model.data.atomic_files import write_atomically
from model.errors import BadInput, ModelError
from model.lab import loss_correlation
from model.lab.experiment import CLASS_NAMES
from model.lab.learning_curves import RoundRow, summarize, table
from model.lab.report import asked, curves, ranks
from model.lab.report.chart import Chart
from model.lab.report.page import write_page
from model.lab.report.picture import draw

NUMBER, NONE = (int, float), type(None)
SIMULATED: dict[str, tuple[type, ...]] = {
    "strategy": (str,), "seed": (int,), "round": (int,), "labels": (int,), "accuracy": NUMBER,
}  # fmt: skip
MEASURED: dict[str, tuple[type, ...]] = {
    "task": (str,), "seed": (int,), "images": (int,), "rho": (*NUMBER, NONE), "rho_test": (*NUMBER, NONE),
    "error": (str, NONE),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        for path, folder in zip(given.results, _folders(given.results, given.out), strict=True):
            print(report(path, folder, given.device))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _folders(results: Sequence[Path], out: Path | None) -> list[Path]:
    """Return the output folder of each results file; files of the same name get different folders."""
    if out is None:
        return [path.with_suffix(".report") for path in results]
    if len(results) == 1:
        return [out]
    folders: list[Path] = []
    for path in results:
        names = (path.stem if number == 1 else f"{path.stem}-{number}" for number in count(1))
        folders.append(next(folder for name in names if (folder := out / name) not in folders))
    return folders


def report(path: Path, folder: Path, device: str = "auto") -> Path:
    """Draw the results in ``path`` into ``folder`` and return the page; raise BadInput if they are no results."""
    rows = _read(path)
    work = path.with_suffix(".work")
    charts: list[Chart]
    if "task" in rows[0]:
        measured = cast(list[loss_correlation.TaskCorrelation], rows)
        charts, text = ranks.charts(measured, work), loss_correlation.table(measured)
    else:
        simulated = cast(list[RoundRow], rows)
        charts = [*curves.charts(simulated, _classes(work)), *asked.charts(simulated, work, device)]
        text = table(summarize(simulated))
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    pictures = {chart.name: draw(chart) for chart in charts}
    write_page(page, path.stem, _config_text(work), text, charts, pictures)
    for name, picture in pictures.items():
        write_atomically(folder / f"{name}.png", picture)
    return page


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(f"there are no results at {path}") from error
    except ValueError as error:
        raise BadInput(f"{path} is no results file: {error}") from error
    if not isinstance(rows, list) or not rows or not any(_are_of_kind(rows, kind) for kind in (SIMULATED, MEASURED)):
        raise BadInput(f"{path} holds no results of model.simulate or model.h1")
    return cast(list[dict[str, Any]], rows)


def _are_of_kind(rows: list[Any], kind: Mapping[str, tuple[type, ...]]) -> bool:
    """Return whether all rows are of a kind, with all fields that its charts read."""
    return all(
        isinstance(row, dict) and all(name in row and isinstance(row[name], types) for name, types in kind.items())
        for row in rows
    )


def _classes(work: Path) -> list[str]:
    """Return the names of the classes, if the work folder of a simulation has them."""
    path = next(iter(sorted(work.glob(f"seed-*/{CLASS_NAMES}"))), None)
    return [str(name) for name in json.loads(path.read_text())] if path else []


def _config_text(work: Path) -> str:
    """Return the configuration of the results as text, if the work folder has it."""
    path = work / "setting.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    return ", ".join(f"{name} {value}" for name, value in config.items() if value not in (None, False, 0.0))


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
