"""When a process last did for a project what is due now and then."""

import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Timetable:
    """Due times and remembered values, by task and project.

    They are lost with the process on purpose: what is due is then done once more.
    """

    tried: Counter[tuple[str, int]] = field(default_factory=Counter)  # tries in vain, by task and project
    _due: dict[Hashable, tuple[Hashable, float]] = field(default_factory=dict)
    _kept: dict[Hashable, tuple[Hashable, Any]] = field(default_factory=dict)

    def is_due(self, task: str, project_id: int, state: Hashable = None) -> bool:
        """Tell whether a task was never done, was done in another state, or has to be done again by now."""
        known, due_at = self._due.get((task, project_id), (None, 0.0))
        return known != state or time.monotonic() >= due_at

    def done(self, task: str, project_id: int, again_s: float, state: Hashable = None) -> None:
        """Note that a task was done in a state, and when it is due again (seconds from now)."""
        self._due[task, project_id] = state, time.monotonic() + again_s

    def late_s(self, task: str, project_id: int) -> float:
        """Return for how many seconds a task has been due; negative while it is not."""
        return time.monotonic() - self._due.get((task, project_id), (None, 0.0))[1]

    def keep(self, name: str, project_id: int, version: Hashable, make: Callable[[], T]) -> T:
        """Return a value of that version, computed once."""
        known = self._kept.get((name, project_id))
        if known is None or known[0] != version:
            known = self._kept[name, project_id] = version, make()
        value: T = known[1]
        return value
