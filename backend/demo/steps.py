"""How the demo shows what it does: bars on a terminal, a line a step anywhere else."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Lines(Progress):
    """Prints a line when a step begins, has another text, and is done: a file would get bars at the end only."""

    def __init__(self, console: Console) -> None:
        """Print to ``console``, which writes each line at once."""
        super().__init__(console=console, disable=True)
        self._said: dict[TaskID, str] = {}

    def add_task(self, description: str, *given: Any, **options: Any) -> TaskID:
        """Begin a step."""
        step = super().add_task(description, *given, **options)
        self._say(step)
        return step

    def update(self, task_id: TaskID, **changed: Any) -> None:
        """Note how far a step has come."""
        super().update(task_id, **changed)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Note that a step has come further."""
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, step: TaskID) -> None:
        task = next(task for task in self.tasks if task.id == step)
        text = f"{task.description}: done" if task.finished else task.description
        if self._said.get(step) != text:
            self._said[step] = text
            self.console.print(text, markup=False, soft_wrap=True)


def show_steps(console: Console) -> Progress:
    """Return what shows the steps on a console."""
    if not console.is_terminal:
        return Lines(console)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
