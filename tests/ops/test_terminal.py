"""What the terminal shows: the table of projects, and bars while long work runs."""

import io
import os
import pty
import re
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from backend.config import Settings
from backend.server.progress import bar_line, bars, running
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


def start_job(store: Store, project: ProjectRow, kind: str, progress: float) -> None:
    token = store.of(project.id).jobs.start(kind)
    store.of(project.id).jobs.take(kind, token, "w")
    assert project.id not in [
        row.id for row, job in running(store) if job.kind == kind
    ]  # it has not said how far it is
    store.of(project.id).jobs.beat(kind, token, progress)


def test_bars_stand_in_a_terminal_while_work_runs(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    start_job(store, connect(store), "retrain", 0.5)
    terminal, file = Terminal(), io.StringIO()
    with bars(settings, terminal):
        deadline = time.monotonic() + 60
        while "50%" not in terminal.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "project 7 training " in terminal.getvalue()
    assert set(Screen(terminal.getvalue()).lines) == {""}
    with bars(settings, file):
        time.sleep(0)
    assert file.getvalue() == ""


@pytest.mark.parametrize("width", [120, 60, 20, 5])
def test_bars_take_one_line_however_narrow_the_terminal_is(settings: Settings, store: Store, width: int) -> None:
    for studio_project_id in (7, 8):
        start_job(store, connect(store, studio_project_id), "retrain", 0.5)
    console = Console(file=io.StringIO(), width=width)
    console.print(bar_line(running(store)))
    [line] = console.file.getvalue().splitlines()
    assert len(line) <= width
    assert width < 60 or line.count("50%") == 2


CHILD = """
import logging, time
from backend import logs
from backend.config import Settings
logs.configure("web", Settings())
for number in range(60):
    logging.getLogger("backend").info("line %d of the log", number)
    time.sleep(0.02)
"""
PARENT = """
import subprocess, sys, time
from pathlib import Path
from backend.config import Settings
from backend.server.progress import bars
with bars(Settings(data_dir=Path(sys.argv[1]))):
    time.sleep(0.7)
    children = [subprocess.Popen([sys.executable, "-c", sys.argv[2]]) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    time.sleep(0.7)
    print("end", file=sys.stderr, flush=True)
    time.sleep(0.7)
"""


class Screen:
    """What a terminal shows of the control codes that bars and log use: return, newline, up, and erasing a line."""

    def __init__(self, text: str) -> None:
        """Write ``text``."""
        self.lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x1b]", text):
            if part == "\r":
                column = 0
            elif part == "\n":
                row += 1
                self.lines += [""] * (row == len(self.lines))
            elif part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1])
            elif part.startswith("\x1b"):
                kept = {"K": self.lines[row][:column], "2K": ""}.get(part[2:])  # others are colours and the cursor
                self.lines[row] = self.lines[row] if kept is None else kept
            else:
                before = self.lines[row].ljust(column)
                self.lines[row] = before[:column] + part + before[column + 1 :]
                column += 1


def test_log_lines_of_other_processes_stay_whole_beside_the_bars(settings: Settings, store: Store) -> None:
    for studio_project_id in (7, 8):
        start_job(store, connect(store, studio_project_id), "retrain", 0.5)
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 100))
    env = {**os.environ, "TERM": "xterm", "DATA_DIR": str(settings.data_dir), "COLUMNS": "100"}
    command = [sys.executable, "-c", PARENT, str(settings.data_dir), CHILD]
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    written = b""
    with os.fdopen(controller, "rb", buffering=0) as stream, suppress(OSError):  # EIO: all processes have closed it
        while data := stream.read(10_000):
            written += data
    assert process.wait(60) == 0
    text = written.decode()
    assert text.count("50%") >= 4
    screen = Screen(text).lines
    logged = [line for line in screen if "of the log" in line]
    assert len(logged) == 2 * 60
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d web +line \d+ of the log", line) for line in logged)
    assert not [line for line in screen if "project" in line and not line.endswith("end")]
    assert screen[-1] == ""
