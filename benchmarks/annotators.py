"""Rounds of the default size on a real Label Studio, labeled by simulated annotators: one, then three at a time."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.demo.annotator import Annotator
from backend.store import AskState, RoundState
from benchmarks.measure import Measure, limit, percentile
from benchmarks.served import ServedProject, result_of

SECONDS = 75.0
THINKING_S = 1.0, 3.0  # that a person looks at an image, at least and at most
POLL_S = 0.2
SERVED = (AskState.POSTING, AskState.POSTED)


@dataclass
class Seen:
    """What one annotator met with. waits: seconds from asking for a task to having one."""

    waits: list[float] = field(default_factory=list)
    without: list[int] = field(default_factory=list)  # tasks that came without a prediction of ours
    answered: list[float] = field(default_factory=list)  # times of day
    nothing: int = 0  # times that Label Studio had no task


def run(project: ServedProject, seconds: float = SECONDS, people: int = 3) -> list[Measure]:
    """Have one annotator label for a third of the time, then ``people`` at once; tell what they met with."""
    begun, rounds = time.time(), project.store.of(project.key).rounds
    current = rounds.current()
    first = current.number if current else 0
    seen = [Seen() for _ in range(people)]
    three_from = begun + seconds / 3
    threads = [
        threading.Thread(target=_label, args=(project, number, 0.0 if number == 0 else seconds / 3, seconds, seen))
        for number in range(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = {ask.task_id for row in rounds.all() for ask in rounds.asks(row.number, states=SERVED)}
    strays = [task for one in seen for task in one.without if task not in asked]
    times = sorted(time for one in seen for time in one.answered)
    closed = [row for row in rounds.all() if row.state == RoundState.CLOSED and row.number >= first]
    alone, together = ([row.asked for row in closed if (row.live_at >= three_from) == late] for late in (False, True))
    live_at = {row.number: row.live_at for row in rounds.all()}
    turns = [
        _turnaround(row.live_at, row.asked, following, times)
        for row in closed
        if (following := live_at.get(row.number + 1)) is not None
    ]
    known = [turn for turn in turns if turn is not None]
    if not known or not together:
        raise RuntimeError(f"{seconds:.0f} s of labeling completed no round of all annotators: {len(times)} answers")
    waits = [wait for one in seen for wait in one.waits]
    about = f"{people} annotators, {THINKING_S[0]:g} to {THINKING_S[1]:g} s an image"
    return [
        limit(f"tasks served outside the queue, {about}", "tasks", float(len(strays)), 0, f"of {len(times)} answered"),
        limit("times that they were served nothing", "times", float(sum(one.nothing for one in seen)), 0),
        limit("from asking Label Studio to having a task, 95%", "s", percentile(waits, 0.95), None,
              f"half within {percentile(waits, 0.5):.2f} s, longest {max(waits):.2f} s"),
        limit("last answer of a round to the next queue, median", "s", float(np.median(known)), None,
              f"{len(known)} rounds, longest {max(known):.1f} s; reserve was served meanwhile"),
        limit("images a round with three annotators", "images", float(np.median(together)), None,
              f"of each round with one annotator: {_listed(alone)}; with three: {_listed(together)}"),
    ]  # fmt: skip


def _label(project: ServedProject, number: int, start_s: float, stop_s: float, seen: Sequence[Seen]) -> None:
    begun, mine, generator = time.monotonic(), seen[number], np.random.default_rng(number)
    time.sleep(start_s)
    person = project.person
    if number:
        name = f"annotator-{number}-{project.id}@example.com"
        person = Annotator(person.server, name, "label-studio-1", sign_up=True)
    while time.monotonic() - begun < stop_s:
        asked = time.monotonic()
        while (task := person.next_task(project.id)) is None and time.monotonic() - begun < stop_s:
            mine.nothing += 1
            time.sleep(POLL_S)
        if task is None:
            return
        mine.waits.append(time.monotonic() - asked)
        if not any(one["model_version"].startswith("pt4al-r") for one in task.predictions):
            mine.without.append(task.id)
        time.sleep(generator.uniform(*THINKING_S))
        person.annotate(task.id, result_of(task.data))
        mine.answered.append(time.time())


def _turnaround(live: float, asked: int, next_live: float, times: Sequence[float]) -> float | None:
    """Return the seconds from the answer that completed a round to the next queue; None if it was not seen."""
    within = [time for time in times if live <= time <= next_live]
    return next_live - within[asked - 1] if len(within) >= asked else None


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
