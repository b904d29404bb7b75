"""Events are hints: lost, repeated, reversed, unknown or forged, the project ends the same."""

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests
from faults.proxy import Proxy
from faults.scenario import IMAGES, PARAMS, UNHARMED, K, damage, finish, label, meanwhile, play
from support.e2e_harness import Backend, LabelingProject
from support.labelstudio import LabelStudioServer, free_port

from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

STORM_S = float(os.environ.get("FAULTS_STORM_S") or 60)
PER_S = 100


@pytest.fixture(scope="module")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


@pytest.mark.parametrize("mode", ["drop", "ten-times", "reverse"])
def test_a_project_ends_the_same_however_events_arrive(
    make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject], studio: LabelStudio, mode: str,
    figures,
) -> None:  # fmt: skip
    """Label Studio speaks to the backend through a proxy that loses, multiplies or reverses its events."""
    backend = make_backend()
    proxy = Proxy(free_port(), backend.url)
    try:
        proxy.set(mode=mode, only="/webhook")
        project = make_project(IMAGES, using=backend, connect=False)
        project.annotator.connect_backend(project.id, proxy.url, PARAMS)
        outcome = play(project, backend, studio)
        seen = proxy.set(mode="pass")
    finally:
        proxy.stop()
    assert seen["faults"] > 0
    assert len(outcome.labels) == 2 * (K + 1)
    counted = damage(project, backend, studio)
    figures(events=seen["faults"], queues=len(outcome.queues), **counted)
    assert counted == UNHARMED


def test_strangers_events_change_nothing(
    make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject], studio: LabelStudio, figures
) -> None:
    backend = make_backend(BASIC_AUTH_USER="me", BASIC_AUTH_PASS="pass")
    project = make_project(IMAGES, using=backend, connect=False)
    project.annotator.connect_backend(
        project.id, backend.url, PARAMS, auth_method="BASIC_AUTH", basic_auth_user="me", basic_auth_pass="pass"
    )
    http = requests.Session()
    http.auth = ("me", "pass")

    def status() -> dict[str, object]:
        answer = http.get(f"{backend.url}/api/projects/{project.id}", timeout=10)
        return answer.json() if answer.ok else {}

    backend.status = lambda _: status()  # type: ignore[method-assign] # the harness knows no passwords
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    codes = [
        requests.post(
            f"{backend.url}/webhook",
            json={"action": action, "project": {"id": number}},
            headers={"X-PT4AL-Secret": secret},
            timeout=10,
        ).status_code
        for action in ("START_TRAINING", "ANNOTATION_CREATED", "TASKS_DELETED")
        for number in (project.id, 10**6)
        for secret in ("", "guess", "x" * 43)
        for _ in range(10)
    ]
    accepted = sum(code != 401 for code in codes)
    figures(forged=len(codes), accepted=accepted)
    assert accepted == 0
    for task in queue[:3]:
        label(project, task)
    backend.wait(project.id, "three answers", lambda s: s["queue"]["answered"] == 3)
    time.sleep(5)
    assert status()["round"] == 0, "nobody but the annotators ends a round"
    for task in queue[3 : K + 1]:
        label(project, task)
    backend.wait_round(project.id, 1, 240)
    finish(project, backend, studio, ((), ()))


def test_a_storm_of_webhooks_while_training_is_answered_in_time(
    make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject], studio: LabelStudio, figures
) -> None:
    backend = make_backend()
    project = make_project(IMAGES, using=backend, **PARAMS)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    memory: list[float] = []
    event = {"action": "ANNOTATION_CREATED", "project": {"id": project.id}, "task": {"id": queue[0]}, "annotation": {}}
    rates = itertools.cycle([project.id, project.id, project.id, 10**6])
    took: list[float] = []
    local = threading.local()

    def send(at: float) -> None:
        if not hasattr(local, "http"):
            local.http = requests.Session()
        begun = time.monotonic()
        body = {**event, "project": {"id": next(rates)}}
        answer = local.http.post(f"{backend.url}/webhook", json=body, timeout=30)
        took.append(time.monotonic() - begun)
        assert answer.status_code == 201
        assert at <= begun

    labels = iter(queue[: K + 1])
    with ThreadPoolExecutor(16) as pool, meanwhile(lambda: label(project, next(labels)), every(1.0, K + 1)):
        begun = time.monotonic()
        sent = []
        for number in range(int(STORM_S * PER_S)):
            due = begun + number / PER_S
            time.sleep(max(0.0, due - time.monotonic()))
            sent.append(pool.submit(send, due))
            if number % PER_S == 0:
                memory.append(web_memory(backend))
        rate = len(sent) / (time.monotonic() - begun)
        for one in sent:
            one.result()
    third = len(memory) // 3
    grown = statistics.median(memory[-third:]) - statistics.median(memory[third : 2 * third])
    ordered = sorted(took)
    figures(
        webhooks=len(took), per_s=round(rate), slowest_s=round(ordered[-1], 3),
        p99_s=round(ordered[-len(took) // 100], 3), memory_grown_mb=round(grown, 1),
    )  # fmt: skip
    backend.wait_round(project.id, 1, 240)
    finish(project, backend, studio, ((), ()))
    assert rate > 0.9 * PER_S
    assert ordered[-1] < 1
    assert grown < 20


def every(pause_s: float, times: int) -> Iterator[float]:
    return itertools.repeat(pause_s, times)


def web_memory(backend: Backend) -> float:
    """The memory of the web processes in MB."""
    assert backend.process is not None
    tree = psutil.Process(backend.process.pid).children(recursive=True)
    return sum(one.memory_info().rss for one in tree if "web" in one.cmdline()) / 2**20
