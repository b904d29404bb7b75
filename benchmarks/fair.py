"""Fifty projects on a real Label Studio, three of them large: how long a hint of a small one takes meanwhile."""

import random
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from pydantic import SecretStr

from backend.config import Settings
from backend.demo import servers
from backend.demo.annotator import Annotator
from backend.queueing.queues import PREFIX, Queueing
from backend.store import JobState, Store
from benchmarks.measure import Log, Measure, limit, percentile
from benchmarks.ports import free_port
from benchmarks.served import CONFIG, photo_server

PROJECTS, LARGE = 50, 3
SMALL_IMAGES, LARGE_IMAGES = 8, 300
PASSES = 3  # over the small projects
TRAINED = {"encoder": "none", "network": "resnet18"}  # minutes of training, before any label
ADVANCE_S = 1.0
POLL_S = 0.005
PATIENCE_S = 600.0


def run(log: Log) -> list[Measure]:
    """Measure on an empty Label Studio."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        address = stack.enter_context(photo_server())
        studio = stack.enter_context(servers.label_studio(folder, free_port()))
        backend = stack.enter_context(servers.backend(folder, free_port(), ALLOWED_IMAGE_HOSTS="127.0.0.1"))
        studio.wait(lambda: None)
        backend.wait(lambda: None)
        person = Annotator(studio.url, servers.EMAIL, servers.PASSWORD)
        settings = Settings(data_dir=folder / "backend")
        store = stack.enter_context(closing(Store.from_settings(settings)))
        url = (folder / "backend" / "redis" / "url").read_text().strip()
        queueing = Queueing.from_settings(Settings(data_dir=settings.data_dir, redis_url=SecretStr(url)))
        log(f"fair: {PROJECTS - LARGE} small projects")
        small = [_project(person, backend.url, store, address, SMALL_IMAGES) for _ in range(PROJECTS - LARGE)]
        _wait(lambda: all(_is_served(store, key) for key in small))
        log(f"fair: {LARGE} large ones, which train")
        large = [
            _project(person, backend.url, store, address, LARGE_IMAGES, **TRAINED) for _ in range(LARGE)
        ]  # fmt: skip
        _wait(lambda: all(_trains(store, key) for key in large))
        seconds = []
        for _ in range(PASSES):
            for key in random.Random(0).sample(small, len(small)):
                seconds.append(_advance(queueing, key))
        if not all(_trains(store, key) for key in large):
            raise RuntimeError("the trainings ended before all was measured: make the large projects larger")
    note = f"95% within {percentile(seconds, 0.95):.2f} s, the slowest {max(seconds):.2f} s, of {len(seconds)} hints"
    what = f"`advance` of the median of {PROJECTS} projects while {LARGE} train, from the hint to its end"
    return [limit(what, "s", percentile(seconds, 0.5), ADVANCE_S, note)]


def _project(person: Annotator, backend: str, store: Store, address: str, images: int, **params: object) -> int:
    """Make a project with its tasks, connect it, and return its id in the store."""
    project = person.create_project(f"{images} images", CONFIG)
    person.import_tasks(project, [{"data": {"image": f"{address}/{number}.jpg"}} for number in range(images)])
    person.connect_backend(project, backend, params)
    row = store.projects.find(project)
    if row is None:
        raise LookupError(f"project {project} is not in the backend's store")
    return row.id


def _is_served(store: Store, key: int) -> bool:
    current = store.of(key).rounds.current()
    return current is not None and current.live_at is not None


def _trains(store: Store, key: int) -> bool:
    """Tell whether a project trains, or waits for a worker to do so."""
    return any(
        job.kind == "pretext" and job.state in (JobState.QUEUED, JobState.RUNNING) for job in store.of(key).jobs.all()
    )


def _advance(queueing: Queueing, key: int) -> float:
    """Give a hint; return the seconds until the step that it asks for is done."""
    started = time.perf_counter()
    queueing.wake(key)
    quiet = 0
    while quiet < 2:  # between taking the hint and taking the lock, nothing shows
        at_work = queueing.is_woken(key) or queueing.connection.exists(f"{PREFIX}lock:{key}")
        quiet = 0 if at_work else quiet + 1
        time.sleep(POLL_S)
    return time.perf_counter() - started


def _wait(test: object) -> None:
    deadline = time.perf_counter() + PATIENCE_S
    while not test():  # type: ignore[operator]
        if time.perf_counter() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s")
        time.sleep(0.5)
