"""Loss and batch into 50,000 tasks of a real Label Studio, against one PATCH a task; and reading changes back."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from backend.config import Settings
from backend.demo.annotator import Annotator
from backend.loop.context import Context, Work
from backend.loop.steps.pull import pull_changes
from backend.loop.steps.record import record
from backend.queueing.queues import Queueing
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
    work = _work(person, token, project, settings)
    started = time.perf_counter()
    pull_changes(work)
    read = time.perf_counter() - started
    _give_losses(work)
    log(f"recording: {PATCHED} tasks by PATCH")
    theirs = _patch(person, work) * TASKS
    log(f"recording: {TASKS:,} tasks, killed in the middle and taken up again")
    ours = _record(work)
    again = _read_back(person, work)
    share = ours.again / TASKS
    return [
        ratio(f"recording loss and batch on {TASKS:,} tasks", "s", theirs, ours.seconds, 40,
              f"{PATCHED} PATCHes measured; ours killed once in the middle, {share:.1%} written twice"),
        ratio("reading what has changed since the last time, against the whole pool", "s", read, again, 10,
              f"{TASKS:,} tasks, {CHANGED} answered meanwhile"),
        limit("the tasks that a killed recording left", "tasks", float(TASKS - ours.tasks), 0),
    ]  # fmt: skip


def _read_back(person: Annotator, work: Work) -> float:
    """Return the seconds that reading takes after some answers."""
    pull_changes(work)  # what the recording has changed
    before = work.project_store.tasks.counts(0).labeled
    result = [{"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": ["a"]}}]
    for task_id in sorted(work.project_store.tasks.known())[:CHANGED]:
        person.annotate(task_id, result)
    started = time.perf_counter()
    pull_changes(work)
    seconds = time.perf_counter() - started
    found = work.project_store.tasks.counts(0).labeled - before
    if found != CHANGED:
        raise RuntimeError(f"{CHANGED} tasks were answered, and {found} answers found")
    return seconds


def _work(person: Annotator, token: str, project: int, settings: Settings) -> Work:
    store = Store(settings.database, settings.data_dir)
    created = datetime.fromisoformat(person.call("GET", f"/api/projects/{project}/")["created_at"])
    row, _ = store.projects.connect(
        studio_project_id=project, created_ts=str(int(created.timestamp())), server=person.server, token=token,
        backend_url=None, label_config=CONFIG, extra_params={},
    )  # fmt: skip
    return Work(Context(settings, store, Queueing.from_settings(settings)), row)


def _give_losses(work: Work) -> None:
    """Put every image into the bank's index, with a loss as rotation leaves them and the batch of its rank."""
    with work.store.read() as session:
        ids = [row[0] for row in session.connection().exec_driver_sql("SELECT task_id FROM task ORDER BY task_id")]
    losses = np.random.default_rng(0).lognormal(-1.2, 1.0, len(ids)).astype(np.float32)
    ranks = np.argsort(np.argsort(-losses))
    work.project_store.tasks.images_fetched({task: i for i, task in enumerate(ids)})
    work.project_store.tasks.set_losses({i: float(loss) for i, loss in enumerate(losses)})
    work.project_store.tasks.set_batches({i: int(rank * BATCHES // len(ids)) for i, rank in enumerate(ranks)})


def _patch(person: Annotator, work: Work) -> float:
    """Return the seconds a task that one PATCH takes, as a script without this project would write it."""
    rows = work.project_store.tasks.unrecorded(PATCHED)
    started = time.perf_counter()
    for task_id, loss, batch, _, _ in rows:
        data: dict[str, Any] = {"image": f"http://images.invalid/{task_id}.png"}
        body = {"data": {**data, "pretext_loss": round(loss, 4), "pretext_batch": batch}}
        person.call("PATCH", f"/api/tasks/{task_id}/", body)
    return (time.perf_counter() - started) / len(rows)


def _record(work: Work) -> Recorded:
    def die_in_the_middle(share: float) -> None:
        if share > 0.5:
            raise Killed

    written: list[int] = []
    plain = work.studio.set_field

    def counted(project: int, task_ids: Sequence[int], name: str, value: float) -> None:
        plain(project, task_ids, name, value)
        written.append(len(task_ids))

    work.studio.set_field = counted  # type: ignore[method-assign]
    started = time.perf_counter()
    try:
        record(work, die_in_the_middle)
    except Killed:
        record(work, lambda _: None)
    seconds = time.perf_counter() - started
    left = len(work.project_store.tasks.unrecorded(TASKS))
    return Recorded(seconds, TASKS - left, sum(written) - 2 * TASKS)
