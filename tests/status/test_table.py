"""The table of projects whose problems differ."""

import io
from pathlib import Path

from rich.console import Console
from support.problem_pages import STARS, classes_project, sets_project

from backend.config import Settings
from backend.status.table import show_status
from backend.store import Store


def printed(folder: Path) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=160)
    show_status(Settings(data_dir=folder), console)
    lines = console.file.getvalue().replace("┃", "│").splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_the_column_is_called_by_the_metric_that_all_share(tmp_path: Path) -> None:
    store = Store(Settings(data_dir=tmp_path).database, tmp_path)
    project = sets_project(store, tmp_path)
    head, row = printed(tmp_path)
    assert (head[7], row[7]) == ("F1", "F1 0.67 on 4")
    store.of(project.id).rounds.set(0, holdout_size=10, holdout_quality=8, holdout_squares=8)
    assert printed(tmp_path)[1][7] == "F1 0.80 (0.49 to 0.94)"
    classes_project(store, tmp_path, STARS, ["1", "2", "3"], studio_project_id=4)
    head, *rows = printed(tmp_path)
    assert head[7] == "quality"
    assert [row[7] for row in rows] == ["F1 0.80 (0.49 to 0.94)", "3 of 4 right"]
    store.close()
