"""A small project labeled by somebody who knows the truth, and what came of it; the same every time."""

import re
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from support.e2e_harness import Backend, LabelingProject, wait_for

from backend.studio.project import LabelStudio

IMAGES, K, ROUNDS = 60, 10, 3
PARAMS = {"rounds": ROUNDS, "labels_per_round": K, "seed": 1}
ASKED = K + 1  # with the holdout
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Outcome:
    """What a project has come to, by the names of its images: task ids differ from project to project."""

    batches: dict[str, float]
    losses: dict[str, float]
    queues: tuple[tuple[str, ...], ...]
    labels: dict[str, str]


def name_of(data: dict[str, object]) -> str:
    found = re.search(r"digit-\d{4}", str(data["image"]))
    assert found
    return found[0]


def play(project: LabelingProject, backend: Backend, studio: LabelStudio, rounds: int = 2) -> Outcome:
    """Label ``rounds`` rounds and wait until the next queue is served and all is written."""
    tasks = {
        task.id: name_of(dict(task.data))
        for task in studio.project(project.id).tasks.by_id(studio.project(project.id).tasks.ids())
    }
    queues = []
    for number in range(rounds + 1):
        status = backend.wait_round(project.id, number, PATIENCE_S)
        queue = [*status["queue"]["task_ids"]][: status["queue"]["size"]]
        queues.append(tuple(tasks[task] for task in queue))
        for task in queue if number < rounds else ():
            label(project, task)
    return finish(project, backend, studio, tuple(queues))


def finish(
    project: LabelingProject, backend: Backend, studio: LabelStudio, queues: tuple[tuple[str, ...], ...]
) -> Outcome:
    """Wait until all is recorded and the superseded predictions are gone, and give what Label Studio has."""
    version = f"pt4al-r{len(queues) - 1:03d}"

    def settled() -> bool:
        found = studio.project(project.id).tasks.by_id(studio.project(project.id).tasks.ids())
        ours = {name for name in studio.project(project.id).predictions.versions() if not name.endswith("-pool")}
        return ours == {version} and all({"pretext_loss", "pretext_batch"} <= task.data.keys() for task in found)

    wait_for("everything to be written", settled, PATIENCE_S, 1)
    no_doubles(project, backend, studio, version)
    no_half_files(backend.data_dir)
    found = studio.project(project.id).tasks.by_id(studio.project(project.id).tasks.ids())
    return Outcome(
        batches={name_of(dict(task.data)): task.data["pretext_batch"] for task in found},
        losses={name_of(dict(task.data)): task.data["pretext_loss"] for task in found},
        queues=queues,
        labels={
            name_of(dict(task.data)): task.annotations[0].result[0]["value"]["choices"][0]
            for task in found
            if len(task.annotations) == 1
        },
    )


def label(project: LabelingProject, task: int) -> None:
    """Answer a task, whatever is being killed meanwhile; the annotator's browser tries again as well."""
    wait_for(f"task {task} to be saved", lambda: project.label_task(task), PATIENCE_S)


def no_doubles(project: LabelingProject, backend: Backend, studio: LabelStudio, version: str) -> None:
    """See that each image of the queue carries one prediction, and none else but those that were answered since."""

    def exact() -> bool:
        posted = [one.task for one in studio.project(project.id).predictions.stored(version)]
        queue = backend.status(project.id).get("queue", {"task_ids": [], "answered": 0, "ahead": 0})
        waiting = set(queue["task_ids"])
        rest = len(posted) - len(waiting)
        whole = waiting <= set(posted) and rest == queue["answered"] + queue["ahead"]
        return bool(posted) and len(set(posted)) == len(posted) and whole

    wait_for("one prediction for each image of the queue", exact, 60)


def damage(project: LabelingProject, backend: Backend, studio: LabelStudio) -> dict[str, int]:
    """Count the answers in Label Studio that the backend does not have, and the predictions that a task has twice.

    An answer counts as lost once the backend has not read it for a minute.
    """
    handle = studio.project(project.id)
    given = {task.id for task in handle.tasks.by_id(handle.tasks.ids()) if task.annotations}
    deadline = time.monotonic() + 60
    while (lost := given - answered(backend, project.id)) and time.monotonic() < deadline:
        time.sleep(1)
    stored = [
        (prediction.task, name)
        for name in handle.predictions.versions()
        for prediction in handle.predictions.stored(name)
    ]
    return {"lost": len(lost), "doubles": len(stored) - len(set(stored))}


def answered(backend: Backend, studio_project_id: int) -> set[int]:
    """Return the tasks that have an answer in the backend's database."""
    query = (
        "SELECT task_id FROM task JOIN project ON project.id = task.project_id "
        "WHERE studio_id = ? AND active AND answer != 'none'"
    )
    with closing(sqlite3.connect(backend.data_dir / "pt4al.sqlite3")) as database:
        return {row[0] for row in database.execute(query, (studio_project_id,))}


UNHARMED = {"lost": 0, "doubles": 0}


def no_half_files(data_dir: Path) -> None:
    """See that every file that has its final name is whole."""
    for path in (data_dir / "projects").rglob("*.npy"):
        np.load(path, mmap_mode="r")
    for path in (data_dir / "projects").rglob("*.pt"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None, path


def victims(backend: Backend, what: str) -> list[psutil.Process]:
    """Find processes of the backend's tree: a queue's worker, "web", "redis", or "all"."""
    assert backend.process is not None
    try:
        tree = psutil.Process(backend.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    words = {"web": ["backend", "web"], "redis": ["redis.sock"]}.get(what, ["--queues", what])
    return [process for process in tree if all(any(word in part for part in _command(process)) for word in words)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill(backend: Backend, what: str) -> int:
    """Kill -9; give how many processes died."""
    if what == "all":
        backend.kill()
        backend.start()
        return 1
    found = victims(backend, what)
    for process in found:
        process.kill()
    return len(found)


@contextmanager
def meanwhile(act: Callable[[], None], pauses_s: Iterator[float]) -> Iterator[None]:
    """Run ``act`` after each pause in a thread of its own until the block ends; what it raises, the block raises."""
    done, failed = threading.Event(), []

    def work() -> None:
        for pause in pauses_s:
            if done.wait(pause):
                return
            try:
                act()
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)
                return

    thread = threading.Thread(target=work, name="faults")
    thread.start()
    begun = time.monotonic()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert failed == [], f"after {time.monotonic() - begun:.0f} s"
