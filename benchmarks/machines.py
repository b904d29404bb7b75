"""Embedding a pool by two workers against one, each on a core of its own as if it were a machine with one core."""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from pydantic import SecretStr

from backend.config import Settings
from backend.demo.servers import PASSED_ON, ROOT
from backend.loop.facts import JobKind
from backend.queueing.presence import is_served, present
from backend.queueing.queues import IO, Queueing
from backend.server.redis_server import PrivateRedis
from backend.store import Answer, Store
from backend.store.tasks import TaskChange
from benchmarks.images import PHOTO_CLASSES, colour_images
from benchmarks.measure import Log, Measure, limit, ratio
from benchmarks.served import photo_server
from model.data.bank import ImageBank

IMAGES, WARM_UP = 2048, 256
SIDE = 64
MADE = 64  # different photos
FACTOR = 1.8
PATIENCE_S = 900.0
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="class" toName="image">'
    + "".join(f'<Choice value="{name}"/>' for name in PHOTO_CLASSES)
    + "</Choices></View>"
)


def run(log: Log) -> list[Measure]:
    """Measure where there are two cores; nothing elsewhere, or without a way to give a process its core."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        log("machines: this needs two cores")
        return []
    cores = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        address = stack.enter_context(photo_server(MADE))
        settings = stack.enter_context(_redis(folder))
        store = stack.enter_context(closing(Store.from_settings(settings)))
        queueing = Queueing.from_settings(settings)
        seconds, written = [], []
        for number, core in enumerate(cores, 1):
            stack.enter_context(_worker(settings, core))
            _wait(lambda number=number: sum(is_served([one], IO) for one in present(queueing)) == number)
            _embed(store, queueing, _project(store, settings, WARM_UP, address), PATIENCE_S)
            key = _project(store, settings, IMAGES, address)
            log(f"machines: {IMAGES:,} images by {number} worker(s)")
            seconds.append(_embed(store, queueing, key, PATIENCE_S))
            written.append(_digest(settings, key))
    return [
        ratio(f"embedding {IMAGES:,} images by two workers, against one", "s", *seconds, FACTOR,
              "fetched from a server on the same two cores, decoded and embedded at 128 px; a core each"),
        limit("files of both that differ", "files", float(written[0] != written[1]), 0.0),
    ]  # fmt: skip


def _project(store: Store, settings: Settings, images: int, address: str) -> int:
    """Have a project whose images are in the bank, without features; return its id."""
    number = len(store.projects.all()) + 1
    row, _ = store.projects.connect(
        studio_project_id=number, created_ts=str(number), server="http://127.0.0.1:9", token=None, backend_url=None,
        label_config=CONFIG, extra_params={},
    )  # fmt: skip
    tasks = range(1, images + 1)
    own = store.of(row.id)
    own.tasks.apply([TaskChange(task, f"{address}/{task}.jpg", None, Answer.NONE, None) for task in tasks])
    ImageBank.create(settings.data_dir / "projects" / str(row.id) / f"bank-{SIDE}", SIDE).append(
        colour_images(images, SIDE, seed=0)
    )
    own.set(image_side=SIDE, encoder_side=128)
    own.tasks.images_fetched({task: task - 1 for task in tasks})
    return row.id


def _embed(store: Store, queueing: Queueing, key: int, patience_s: float) -> float:
    """Have the workers embed a project; return the seconds."""
    jobs = store.of(key).jobs
    token = jobs.start(JobKind.EMBED)
    if token is None:
        raise RuntimeError("the job cannot be started")
    started = time.perf_counter()
    queueing.enqueue(IO, JobKind.EMBED, key, token)
    _wait(lambda: not jobs.all(), patience_s)
    return time.perf_counter() - started


def _digest(settings: Settings, key: int) -> dict[str, str]:
    folder = settings.data_dir / "projects" / str(key)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.bin")
    }  # fmt: skip


def _wait(test: object, patience_s: float = 120.0) -> None:
    deadline = time.perf_counter() + patience_s
    while not test():  # type: ignore[operator]
        if time.perf_counter() > deadline:
            raise TimeoutError(f"waited {patience_s:.0f} s")
        time.sleep(0.05)


@contextmanager
def _worker(settings: Settings, core: int) -> Iterator[None]:
    env = {name: value for name, value in os.environ.items() if name in PASSED_ON}
    env |= {
        "DATA_DIR": str(settings.data_dir), "OMP_NUM_THREADS": "1", "ALLOWED_IMAGE_HOSTS": "127.0.0.1",
        "REDIS_URL": settings.redis_url.get_secret_value() if settings.redis_url else "", "DEVICE": "cpu",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "backend", "worker", "--queues", IO], env=env, cwd=ROOT, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _redis(folder: Path) -> Iterator[Settings]:
    redis = PrivateRedis(folder / "data")
    (folder / "data").mkdir()
    process = subprocess.Popen(redis.prepare(), stdout=subprocess.DEVNULL)
    try:
        _wait(redis.ready)
        yield Settings(data_dir=folder / "data", redis_url=SecretStr(redis.url), device="cpu")
    finally:
        process.terminate()
        process.wait(60)
        redis.clean_up()
