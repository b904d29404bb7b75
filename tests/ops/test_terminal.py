"""What the terminal shows: the table of projects, and bars while long work runs."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from backend.config import Settings
from backend.server.progress import bars, line_of, running
from backend.status.table import show_status
from backend.store import Answer, ProjectRow, Store
from backend.store.tasks import TaskChange


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def store(settings: Settings):
    store = Store(settings.database, settings.data_dir)
    yield store
    store.close()


def connect(store: Store, studio_project_id: int = 7, **more: object) -> ProjectRow:
    given = {"created_ts": "1", "server": "http://s", "token": None, "backend_url": None, "label_config": "<View/>"}
    project, _ = store.projects.connect(studio_project_id=studio_project_id, extra_params={"rounds": 4}, **given)
    if more:
        store.projects.set(project.id, **more)
    return project


def printed(settings: Settings, width: int = 160) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=width)
    code = show_status(settings, console)
    return code, console.file.getvalue()


def test_status_without_a_project_says_so_and_makes_nothing(settings: Settings) -> None:
    code, text = printed(settings)
    assert code == 0
    assert "No project is connected yet" in text
    assert not settings.data_dir.exists()


def test_status_shows_a_line_a_project_and_its_error(settings: Settings, store: Store) -> None:
    birds, _ = connect(store, title="Birds [1]"), connect(store, 8, active=False)
    store.of(birds.id).tasks.apply([TaskChange(1, "x", None, Answer.LABELED, "cat")])
    store.of(birds.id).rounds.plan(0, "pt4al-r000", [])
    store.of(birds.id).rounds.go_live(0)
    store.of(birds.id).rounds.set(0, has_model=True, labels=1, holdout_size=10, holdout_quality=8, holdout_squares=8)
    store.projects.set(birds.id, error="the token is refused")
    code, text = printed(settings)
    assert code == 1
    (line,) = [line for line in text.splitlines() if "7 Birds [1]" in line and "failed" in line]
    cells = [cell.strip() for cell in line.split("│")]
    assert cells[3:10] == ["1 of 4", "0 of 0", "-", "1", "0", "80% (49% to 94%)", "continue"]
    assert "7 Birds [1]: the token is refused" in text
    assert "disconnected" in text


def test_status_fits_eighty_columns_and_breaks_no_word(settings: Settings, store: Store) -> None:
    birds, _ = connect(store, title="Birds of the northern hemisphere, all of them"), connect(store, 8)
    store.of(birds.id).tasks.apply([TaskChange(1, "x", None, Answer.LABELED, "cat")])
    store.of(birds.id).rounds.plan(0, "pt4al-r000", [])
    store.of(birds.id).rounds.go_live(0)
    store.of(birds.id).rounds.set(0, has_model=True, labels=1, holdout_size=3, holdout_quality=2, holdout_squares=2)
    _, text = printed(settings, width=80)
    table = [line for line in text.splitlines() if line.startswith("│")]
    assert len(table) == 2
    assert all(len(line) <= 80 for line in table)
    cells = [cell.strip() for cell in table[0].split("│")]
    assert cells[1].startswith("7 Birds")
    assert cells[3:7] == ["0 of 0", "1", "2 of 3 right", "continue"]
    assert [cell.strip() for cell in table[1].split("│")][3:7] == ["-", "0", "-", "-"]  # no model, no advice


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_stand_in_a_terminal_while_work_runs(settings: Settings, store: Store) -> None:
    project = connect(store)
    token = store.of(project.id).jobs.start("retrain")
    store.of(project.id).jobs.take("retrain", token, "w")
    assert running(store) == []  # it has not said how far it is
    store.of(project.id).jobs.beat("retrain", token, 0.5)
    screen, file = Terminal(), io.StringIO()
    with bars(settings, screen):
        deadline = time.monotonic() + 60
        while "50%" not in screen.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "project 7 training " + 10 * "█" + 10 * "░" + " 50%" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    with bars(settings, file):
        time.sleep(0)
    assert file.getvalue() == ""
    assert line_of(running(store), 12) == "project 7 tr"
