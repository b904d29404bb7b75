"""Many rounds with a simulated annotator: nothing grows that should not."""

import os
import re
from collections.abc import Callable

import psutil
import pytest
import redis
from faults.scenario import label
from support.e2e_harness import Backend, LabelingProject
from support.labelstudio import LabelStudioServer

from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

ROUNDS = int(os.environ.get("FAULTS_ROUNDS") or 200)
K = 2


def measure(backend: Backend, studio: LabelStudio, project: int) -> dict[str, float]:
    """What may not grow: memory and handles of the tree, keys in Redis, files, predictions in Label Studio."""
    assert backend.process is not None
    tree = psutil.Process(backend.process.pid).children(recursive=True)
    workers = [one for one in tree if any("backend" in part for part in one.cmdline())]
    client = redis.Redis.from_url((backend.data_dir / "redis" / "url").read_text().strip())
    files = [path for path in backend.data_dir.rglob("*") if path.is_file()]
    found = {
        "memory_mb": sum(one.memory_info().rss for one in workers) / 2**20,
        "open_files": sum(one.num_fds() for one in workers),
        "threads": sum(one.num_threads() for one in workers),
        "redis_keys": len(client.keys()),
        "files": len(files),
        "weights": len([path for path in files if re.fullmatch(r"round-\d+\.pt", path.name)]),
        "disk_mb": sum(path.stat().st_size for path in files) / 2**20,
        "predictions": sum(studio.project(project).predictions.versions().values()),
    }
    client.close()
    return {name: round(float(value), 1) for name, value in found.items()}


def test_many_rounds_leave_nothing_behind(
    label_studio: LabelStudioServer, make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject],
    figures,
) -> None:  # fmt: skip
    studio = LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])
    backend = make_backend()
    images = min(ROUNDS * (K + 2), 1700)
    project = make_project(images, using=backend, rounds=ROUNDS, labels_per_round=K, holdout_fraction=0.5)
    early: dict[str, float] = {}
    for number in range(ROUNDS):
        status = backend.wait_round(project.id, number, 600)
        if number == max(ROUNDS // 10, 2):
            early = measure(backend, studio, project.id)
        for task in status["queue"]["task_ids"][: status["queue"]["size"]]:
            label(project, task)
    late = measure(backend, studio, project.id)
    figures(rounds=ROUNDS, images=images, early=early, late=late)
    assert late["memory_mb"] < 1.2 * early["memory_mb"] + 50
    assert late["open_files"] <= early["open_files"] + 20
    assert late["threads"] <= early["threads"] + 8
    assert late["redis_keys"] <= early["redis_keys"] + 20
    assert late["predictions"] <= early["predictions"] + 100
    assert late["weights"] <= 5
    assert late["disk_mb"] < 1.5 * early["disk_mb"] + 20
    assert backend.stop() == 0
