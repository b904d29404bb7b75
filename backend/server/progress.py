"""The last line of a terminal: bars for the long jobs that run, under the lines of the log.

Web and workers write their lines themselves. ``logs`` has each of them wipe the line that it is written over, and the
bars are painted again right after.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TextIO

from backend.config import Settings
from backend.logs import WIPE
from backend.store import JobRow, ProjectRow, Store

EVERY_S = 0.5
WIDTH = 20  # characters of a bar
NAMES = {"sync": "fetching images", "pretext": "pretext training", "split": "cutting batches", "retrain": "training",
         "record": "recording losses", "autolabel": "writing predictions", "export": "exporting the model"}  # fmt: skip


@contextmanager
def bars(settings: Settings, stream: TextIO | None = None) -> Iterator[None]:
    """Keep bars of the running jobs at the end of ``stream`` (stderr) during a block, if that is a terminal."""
    stream = stream or sys.stderr
    if not stream.isatty() or settings.log_format == "json":
        yield
        return
    store, done = Store(settings.database, settings.data_dir), threading.Event()

    def paint() -> None:
        before = ""
        while not done.wait(EVERY_S):
            line = line_of(running(store), get_terminal_size().columns - 1)
            if line or before:
                stream.write(WIPE + line)
                stream.flush()
            before = line

    thread = threading.Thread(target=paint, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        stream.write(WIPE)
        stream.flush()
        store.close()


def running(store: Store) -> list[tuple[ProjectRow, JobRow]]:
    """List the jobs that have begun and say how far they are."""
    projects = store.projects.all(active=True)
    jobs = [(project, job) for project in projects for job in store.of(project.id).jobs.all()]
    return [(project, job) for project, job in jobs if job.state == "running" and job.paced_at is not None]


def line_of(jobs: list[tuple[ProjectRow, JobRow]], width: int) -> str:
    """Write the jobs as bars in one line of at most ``width`` characters."""
    parts = []
    for project, job in jobs:
        full = round(WIDTH * min(max(job.progress, 0.0), 1.0))
        bar = "\N{FULL BLOCK}" * full + "\N{LIGHT SHADE}" * (WIDTH - full)
        parts.append(f"project {project.studio_project_id} {NAMES.get(job.kind, job.kind)} {bar} {job.progress:.0%}")
    return "   ".join(parts)[:width]
