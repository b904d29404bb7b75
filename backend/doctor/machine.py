"""Checks of this machine: store, disk, Redis, workers, web server, GPU."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backend.config import Settings
from backend.doctor.finding import Finding
from backend.doctor.machines import START, check_machines
from backend.errors import BackendError, ConfigError, QueueUnavailable
from backend.loop.keys import view_side
from backend.queueing.queues import Queueing
from backend.server.own_processes import ask
from backend.store import Store
from model.encoders.registry import SIDES
from model.learners.registry import MOST_ACTIVATED

LOW_BYTES = 2 * 2**30  # with less, checkpoints and image bank of a large pool may not fit
FEW_BYTES = 2**27  # of images to come, that nobody needs to know of
USUAL_SIDE = 64  # pixels of images whose side is not chosen yet
FEATURE_BYTES = 3584  # of an image, of the default encoder
STRIDE, ACTIVATED_BYTES = 32, 2 * 192  # pixels that one place of the last maps stands for, and what it takes

FULL_SHARE = 0.9  # of Redis' limit
ANSWER_S = 5.0
NVIDIA = Path("/dev/nvidia0")


def open_store(settings: Settings) -> tuple[Store | None, Finding]:
    """Return the store (None if it cannot be opened) and a finding about it and the data folder."""
    name = "store"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir) as file:
            file.write(b"x" * 4096)
            file.flush()
        store = Store.from_settings(settings)
    except OSError as error:
        fix = f"make {settings.data_dir.resolve()} writable for this user and see that its disk has room"
        return None, Finding(name, f"the data folder takes no files ({error.strerror})", fix)
    except BackendError as error:
        return None, Finding(name, str(error), "fix DATABASE_URL, or restore the database from a backup")
    inactive = len(store.projects.all(active=False))
    more = f", {inactive} inactive (disconnected or deleted in Label Studio)" if inactive else ""
    return store, Finding(name, f"{len(store.projects.all(active=True))} connected project(s){more}")


def open_queueing(settings: Settings) -> Queueing | None:
    """Return the queue, or None without a Redis."""
    try:
        return Queueing.from_settings(settings)
    except (QueueUnavailable, ConfigError):
        return None


def check_machine(settings: Settings, store: Store | None) -> Iterator[Finding]:
    """Yield findings about everything that the installation needs besides the store."""
    yield _disk(settings, 0 if store is None else bytes_to_come(store))
    yield _redis(settings)
    yield from check_machines(settings, store)
    yield _web(settings)
    yield _gpu(settings)


def bytes_to_come(store: Store) -> int:
    """Return what images that are still to be fetched will take on the disk: pixels, views, features, activations."""
    total = 0
    for project in store.projects.all(active=True):
        counts = store.of(project.id).tasks.counts(0)
        left = max(counts.tasks - counts.ok - counts.broken, 0)
        made = FEATURE_BYTES
        if counts.tasks <= MOST_ACTIVATED:
            made += ACTIVATED_BYTES * ((project.encoder_side or SIDES[0]) // STRIDE) ** 2
        pixels = (project.image_side or USUAL_SIDE) ** 2 + (view_side(project) or 0) ** 2
        total += left * (3 * pixels + made)
    return total


def _disk(settings: Settings, to_come: int) -> Finding:
    try:
        free = shutil.disk_usage(settings.data_dir).free
    except OSError as error:
        return Finding("disk", f"cannot be read ({error.strerror})", "check that DATA_DIR is mounted")
    text = f"{free / 2**30:.1f} GiB free for {settings.data_dir.resolve()}"
    if to_come > FEW_BYTES:
        text += f"; images that are still to be fetched will take some {to_come / 2**30:.1f} GiB of it"
    fix = f"make room, or set DATA_DIR to a larger disk: below {LOW_BYTES / 2**30:g} GiB checkpoints may not fit"
    return Finding("disk", text, fix if free - to_come < LOW_BYTES else None)


def _redis(settings: Settings) -> Finding:
    try:
        queueing = Queueing.from_settings(settings)
        refusal = queueing.full()
        used, limit = queueing.memory()
    except ConfigError as error:
        return Finding("redis", str(error), "fix REDIS_URL, or leave it out: 'serve' then runs a private one")
    except QueueUnavailable as error:
        return Finding("redis", str(error), f"{START}, or start the Redis that REDIS_URL names")
    room = "raise its maxmemory, or use a Redis of its own for this backend"
    if refusal is not None:
        return Finding("redis", f"it takes no data: {refusal}", room)
    share = f"{used / 2**20:.0f} MiB used" + (f" of {limit / 2**20:.0f}" if limit else "")
    return Finding("redis", share, room if limit and used > FULL_SHARE * limit else None)


def _web(settings: Settings) -> Finding:
    url = f"http://127.0.0.1:{settings.port}/health"
    try:
        ask(url, ANSWER_S)
    except OSError as error:
        fix = f"{START}, or set PORT to where it listens. In another container than this, look there"
        return Finding("web", f"no answer at {url} ({error})", fix)
    return Finding("web", f"answers on port {settings.port}")


def _gpu(settings: Settings) -> Finding:
    from model.device import pick_device  # loads torch, which takes seconds
    from model.errors import ModelError

    try:
        device = pick_device(settings.device).type
    except ModelError as error:
        return Finding(
            "device", str(error), "set DEVICE to one that is there, or install PyTorch with CUDA and its driver"
        )
    if device == "cpu" and settings.device == "auto" and expects_gpu():
        fix = (
            "install a PyTorch with CUDA that fits the driver (docker/compose.gpu.yml does), and see that nvidia-smi "
            "works; DEVICE=cpu says that the CPU is meant"
        )
        return Finding("device", "this machine has an NVIDIA GPU, and PyTorch does not see it", fix)
    return Finding("device", device)


def expects_gpu() -> bool:
    """Return whether this machine or container has been given an NVIDIA GPU."""
    return NVIDIA.exists() or os.environ.get("NVIDIA_VISIBLE_DEVICES", "void") not in ("", "void", "none")
