"""The progress of a long command on stderr: bars on a terminal, a line now and then in a log file."""

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from model.progress import Progress

LOG_EVERY_S = 30.0  # seconds between two lines where stderr is no terminal


class ProgressBars:
    """A bar for each step of a command, shown from ``step`` on until the context ends."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._logged_at = clock()
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def step(self, name: str) -> Progress:
        """Return a callback that shows the share of a step, 0 to 1, that is done."""
        if not self._console.is_terminal:
            return lambda share: self._log(name, share)
        task = self._bars.add_task(name, total=1.0)
        return lambda share: self._bars.update(task, completed=share)

    def _log(self, name: str, share: float) -> None:
        now = self._clock()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            self._console.print(f"{name} {share:.0%}")
