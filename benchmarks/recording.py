"""Loss and batch into 50,000 tasks of a real Label Studio, against one PATCH a task; and reading changes back."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from backend.config import Settings
from backend.demo.annotator import Annotator
from backend.loop.context import Context, OpenProject, open_project
from backend.loop.steps.pull import pull_changes
from backend.loop.steps.record import record
from backend.queueing.queues import IO, Queueing, TimeSlice
from backend.store import Store
from benchmarks.measure import Log, Measure, limit, ratio

TASKS = 50_000
IMPORTED = 5_000  # tasks an import
PATCHED = 40  # tasks of the reference: all of them would take more than an hour
CHANGED = 100  # tasks that are answered before changes are read
BATCHES = 10
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="class" toName="image">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)


class Killed(Exception):  # noqa: N818 - what a kill looks like from inside
    """Ends a recording in the middle."""


@dataclass(frozen=True)
class Recorded:
    """What the recording took, in seconds, and what of it was done twice after a kill."""

    seconds: float
    tasks: int
    again: int


def run(person: Annotator, token: str, settings: Settings, log: Log) -> list[Measure]:
    """Measure on an empty Label Studio; leaves the project there."""
    project = person.create_project("Recording", CONFIG)
    log(f"recording: importing {TASKS:,} tasks")
    for start in range(0, TASKS, IMPORTED):
        tasks = [{"data": {"image": f"http://images.invalid/{i}.png"}} for i in range(start, start + IMPORTED)]
        person.import_tasks(project, tasks)
    context = _context(person, token, project, settings)
    opened = open_project(context, context.store.projects.find(project).id)  # type: ignore[union-attr]
    started = time.perf_counter()
    pull_changes(opened.store, opened.studio)
    read = time.perf_counter() - started
    _give_losses(context.store, opened)
    log(f"recording: {PATCHED} tasks by PATCH")
    theirs = _patch(person, opened) * TASKS
    log(f"recording: {TASKS:,} tasks, killed in the middle and taken up again")
    ours = _record(context, opened)
    again = _read_back(person, opened)
    share = ours.again / TASKS
    return [
        ratio(f"recording loss and batch on {TASKS:,} tasks", "s", theirs, ours.seconds, 40,
              f"{PATCHED} PATCHes measured; ours killed once in the middle, {share:.1%} written twice"),
        ratio("reading what has changed since the last time, against the whole pool", "s", read, again, 10,
              f"{TASKS:,} tasks, {CHANGED} answered meanwhile"),
        limit("the tasks that a killed recording left", "tasks", float(TASKS - ours.tasks), 0),
    ]  # fmt: skip


def _read_back(person: Annotator, opened: OpenProject) -> float:
    """Return the seconds that reading takes after some answers."""
    pull_changes(opened.store, opened.studio)  # what the recording has changed
    before = opened.store.tasks.counts(0).labeled
    result = [{"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": ["a"]}}]
    for task_id in sorted(opened.store.tasks.known())[:CHANGED]:
        person.annotate(task_id, result)
    started = time.perf_counter()
    pull_changes(opened.store, opened.studio)
    seconds = time.perf_counter() - started
    found = opened.store.tasks.counts(0).labeled - before
    if found != CHANGED:
        raise RuntimeError(f"{CHANGED} tasks were answered, and {found} answers found")
    return seconds


def _context(person: Annotator, token: str, project: int, settings: Settings) -> Context:
    store = Store(settings.database, settings.data_dir)
    created = datetime.fromisoformat(person.call("GET", f"/api/projects/{project}/")["created_at"])
    store.projects.connect(
        studio_project_id=project, created_ts=str(int(created.timestamp())), server=person.server, token=token,
        backend_url=None, label_config=CONFIG, extra_params={},
    )  # fmt: skip
    return Context(settings, store, Queueing.from_settings(settings))


def _give_losses(store: Store, opened: OpenProject) -> None:
    """Put every image into the bank's index, with a loss as rotation leaves them and the batch of its rank."""
    with store.read() as session:
        ids = [row[0] for row in session.connection().exec_driver_sql("SELECT task_id FROM task ORDER BY task_id")]
    losses = np.random.default_rng(0).lognormal(-1.2, 1.0, len(ids)).astype(np.float32)
    ranks = np.argsort(np.argsort(-losses))
    opened.store.tasks.images_fetched({task: i for i, task in enumerate(ids)})
    opened.store.tasks.set_losses({i: float(loss) for i, loss in enumerate(losses)})
    opened.store.tasks.set_batches({i: int(rank * BATCHES // len(ids)) for i, rank in enumerate(ranks)})


def _patch(person: Annotator, opened: OpenProject) -> float:
    """Return the seconds a task that one PATCH takes, as a script without this project would write it."""
    rows = opened.store.tasks.unrecorded(PATCHED)
    started = time.perf_counter()
    for task_id, loss, batch, _, _ in rows:
        data: dict[str, Any] = {"image": f"http://images.invalid/{task_id}.png"}
        body = {"data": {**data, "pretext_loss": round(loss, 4), "pretext_batch": batch}}
        person.call("PATCH", f"/api/tasks/{task_id}/", body)
    return (time.perf_counter() - started) / len(rows)


def _record(context: Context, opened: OpenProject) -> Recorded:
    def die_in_the_middle(share: float) -> None:
        if share > 0.5:
            raise Killed

    written: list[int] = []
    plain = opened.studio.tasks.set_field

    def counted(task_ids: Sequence[int], name: str, value: float) -> None:
        plain(task_ids, name, value)
        written.append(len(task_ids))

    opened.studio.tasks.set_field = counted  # type: ignore[method-assign]
    started = time.perf_counter()
    try:
        record(opened.store, opened.studio, TimeSlice(context.queueing, IO), die_in_the_middle)
    except Killed:
        record(opened.store, opened.studio, TimeSlice(context.queueing, IO), lambda _: None)
    seconds = time.perf_counter() - started
    left = len(opened.store.tasks.unrecorded(TASKS))
    return Recorded(seconds, TASKS - left, sum(written) - 2 * TASKS)
