"""``python -m backend status``: all projects as a table, from the store alone, whether or not a server runs."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.config import Settings
from backend.loop.report import advice_of
from backend.loop.status import Status, read_status
from backend.store import Store
from model.metrics import wilson_interval

COLOURS = {"failed": "red", "training": "cyan", "pretext": "cyan", "syncing": "cyan", "finished": "green"}


def show_status(settings: Settings, console: Console | None = None) -> int:
    """Print the table; give the exit code, 1 if a project has an error."""
    console = console or Console()
    found = _read(settings)
    if not found:
        console.print(f"No project is connected yet ({settings.data_dir.resolve()}).")
        return 0
    console.print(_table(found))
    for status in found:
        for tone, text in (("red", status.error), ("yellow", status.notice)):
            if text:
                console.print(Text(f"{_name(status)}: {text}", style=tone))
    return int(any(status.error for status in found if status.project.active))


def _read(settings: Settings) -> list[Status]:
    if settings.database_url is None and not (settings.data_dir / "pt4al.sqlite3").exists():
        return []  # opening it would make one
    store = Store(settings.database, settings.data_dir)
    try:
        return [read_status(store, project) for project in store.projects.all()]
    finally:
        store.close()


def _table(found: list[Status]) -> Table:
    table = Table()
    for title in ("project", "stage"):
        table.add_column(title, overflow="fold")
    for title in ("round", "answered", "labels", "images", "accuracy"):
        table.add_column(title, justify="right")
    table.add_column("advice")
    for status in found:
        live = status.live
        table.add_row(
            Text(_name(status)),
            _stage(status),
            status.round_of or "-",
            f"{status.asks.answered:,} of {live.asked:,}" if live else "-",
            f"{status.tasks.labeled:,}",
            f"{status.tasks.ok:,}",
            _accuracy(status),
            advice_of(status) if status.project.active else "-",
            style=None if status.project.active else "dim",
        )
    return table


def _name(status: Status) -> str:
    project = status.project
    return f"{project.studio_id} {project.title}" if project.title else str(project.studio_id)


def _stage(status: Status) -> Text:
    if not status.project.active:
        return Text("disconnected")
    share = "" if status.progress is None else f" {status.progress:.0%}"
    return Text(status.stage + share, style=COLOURS.get(status.stage, ""))


def _accuracy(status: Status) -> str:
    measured = [row for row in status.rounds if row.has_model and row.holdout_size]
    if not measured:
        return "-"
    size, correct = measured[-1].holdout_size or 1, measured[-1].holdout_correct or 0
    low, high = wilson_interval(correct, size)
    return f"{correct / size:.0%} ({low:.0%} to {high:.0%})"
