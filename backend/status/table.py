"""``python -m backend status``: all projects as a table, from the store alone, whether or not a server runs."""

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.config import Settings
from backend.status.status import Status, read_status
from backend.status.summary import advice_of
from backend.store import Store

COLOURS = {"failed": "red", "training": "cyan", "pretext": "cyan", "syncing": "cyan", "finished": "green"}
NARROW = ("stage", "answered", "labels", "quality", "advice")
WIDE = ("stage", "round", "answered", "ahead", "labels", "images", "quality", "advice")
LEFT = {"stage", "advice"}
SHORTEST_NAME = 8
WIDE_FROM = 120  # columns of the terminal that all of these need


def show_status(settings: Settings, console: Console | None = None) -> int:
    """Print the table; return the exit code, 1 if a project has an error."""
    console = console or Console()
    statuses = _read(settings)
    if not statuses:
        console.print(f"No project is connected yet ({settings.data_dir.resolve()}).")
        return 0
    console.print(_table(statuses, console.width))
    for status in statuses:
        for tone, text in (("red", status.error), ("yellow", status.notice)):
            if text:
                console.print(Text(f"{_name(status)}: {text}", style=tone))
    return int(any(status.error for status in statuses if status.project.active))


def _read(settings: Settings) -> list[Status]:
    if settings.database_url is None and not (settings.data_dir / "pt4al.sqlite3").exists():
        return []  # opening it would make one
    store = Store.from_settings(settings)
    try:
        return [read_status(store, project) for project in store.projects.all()]
    finally:
        store.close()


def _table(statuses: list[Status], width: int) -> Table:
    titles = WIDE if width >= WIDE_FROM else NARROW
    rows = [_cells(status) for status in statuses]
    names = [_quality_title(statuses) if title == "quality" else title for title in titles]
    taken = sum(
        max(cell_len(str(text)) for text in (name, *(row[title] for row in rows)))
        for title, name in zip(titles, names, strict=True)
    )
    # The names alone give way; three columns a cell are its border and padding.
    left = max(width - taken - 3 * (len(titles) + 1) - 1, SHORTEST_NAME)
    table = Table()
    table.add_column("project", no_wrap=True)
    for title, heading in zip(titles, names, strict=True):
        table.add_column(heading, justify="left" if title in LEFT else "right", no_wrap=True)
    for status, row in zip(statuses, rows, strict=True):
        name = Text(_name(status))
        name.truncate(left, overflow="ellipsis")
        table.add_row(name, *(row[title] for title in titles), style=None if status.project.active else "dim")
    return table


def _cells(status: Status) -> dict[str, Text | str]:
    modelled = any(row.has_model for row in status.rounds)
    return {
        "stage": _stage(status),
        "round": status.round_of or "-",
        "answered": f"{status.answered:,} of {status.live.asked:,}" if status.live else "-",
        "ahead": f"{status.ahead:,}" if status.ahead else "-",
        "labels": f"{status.tasks.labeled:,}",
        "images": f"{status.tasks.ok:,}",
        "quality": _quality(status),
        "advice": advice_of(status) if status.project.active and modelled else "-",
    }


def _name(status: Status) -> str:
    title = status.project.title
    return f"{status.name} {title}" if title else status.name


def _stage(status: Status) -> Text:
    if not status.project.active:
        return Text("disconnected")
    share = "" if status.progress is None else f" {status.progress:.0%}"
    share = " waits" if status.waits else share
    return Text(status.stage + share, style=COLOURS.get(status.stage, ""))


def _quality_title(statuses: list[Status]) -> str:
    """Return the metric that all projects share; where they differ, it stands beside the numbers."""
    metrics = {status.metric.name for status in statuses}
    return metrics.pop() if len(metrics) == 1 else "quality"


def _quality(status: Status) -> str:
    if status.measured is None:
        return "-"
    quality = status.measured[1]
    name = "" if quality.metric.counted else f"{quality.metric.name} "
    if not quality.few:
        return f"{name}{quality.sentence}"
    return f"{name}{quality.number}" if quality.metric.counted else f"{name}{quality.number} on {quality.size}"
