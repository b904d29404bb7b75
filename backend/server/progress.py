"""The last line of a terminal: bars for the long jobs that run, below the lines of the log.

Web and workers write their log lines to the same terminal themselves, so the bars take one line only. Every process
clears that line before it writes over it (see ``logs``), and the next refresh draws the bars again below. Bars on
several lines would move the cursor up over lines that another process has written meanwhile.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from backend.config import Settings
from backend.errors import StoreUnavailable
from backend.store import JobRow, ProjectRow, Store

logger = logging.getLogger(__name__)

REFRESHES_PER_S = 2.0
WIDTH = 20  # characters of a bar
NAMES = {"sync": "fetching images", "pretext": "pretext training", "split": "cutting batches", "retrain": "training",
         "record": "recording losses", "autolabel": "writing predictions", "export": "exporting the model"}  # fmt: skip


@contextmanager
def bars(settings: Settings, stream: TextIO | None = None) -> Iterator[None]:
    """Show the running jobs as bars at the end of ``stream`` (stderr) during a block, if that is a terminal."""
    stream = stream or sys.stderr
    if not stream.isatty() or settings.log_format == "json":
        yield
        return
    console, store = Console(file=stream), Store.from_settings(settings)
    live = Live(
        get_renderable=lambda: bar_line(_running(store)),
        console=console,
        refresh_per_second=REFRESHES_PER_S,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    try:
        with live:
            console.show_cursor()  # a process that is killed must not leave a terminal without a cursor
            yield
    finally:
        store.close()


def running(store: Store) -> list[tuple[ProjectRow, JobRow]]:
    """Return the jobs that have begun and report their progress."""
    projects = store.projects.all(active=True)
    jobs = [(project, job) for project in projects for job in store.of(project.id).jobs.all()]
    return [(project, job) for project, job in jobs if job.state == "running" and job.paced_at is not None]


def bar_line(jobs: list[tuple[ProjectRow, JobRow]]) -> Table:
    """Return the jobs as bars beside each other, in one line however narrow the terminal is."""
    line, cells = Table.grid(padding=(0, 1)), list[str | ProgressBar]()
    for project, job in jobs:
        # The number comes first: a narrow terminal cuts the rest.
        name = f"{job.progress:.0%} project {project.studio_project_id} {NAMES.get(job.kind, job.kind)}"
        cells += [name, ProgressBar(1.0, job.progress, WIDTH)]
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_column(no_wrap=True)
    line.add_row(*cells)
    return line


def _running(store: Store) -> list[tuple[ProjectRow, JobRow]]:
    try:
        return running(store)
    except StoreUnavailable as error:
        logger.debug("the bars are left out: %s", error)
        return []
