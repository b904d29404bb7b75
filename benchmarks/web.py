"""Answer times of the web side under a steady load."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests

from backend.demo.annotator import Annotator
from backend.server.own_processes import ask
from benchmarks.measure import percentile

RATE = 100.0  # requests a second, over all paths
SECONDS = 8.0  # for each path
SENDERS = 16


@dataclass(frozen=True)
class Call:
    """A request as Label Studio sends it; without a body it is a GET."""

    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """Answer times in seconds, from the moment at which a request was due.

    failures: requests that were not answered with 2xx; refusal: what the first of them was told.
    """

    requests: int
    failures: int
    p50: float
    p99: float
    refusal: str | None = None


def web_load(backend: str, calls: Sequence[Call]) -> dict[str, Load]:
    """Put each of these under load, one after the other."""
    return {call.path: steady(backend, call) for call in calls}


def calls_of(person: Annotator, project: int) -> list[Call]:
    """Return what Label Studio sends to a project's connected backend, with all that the backend looks at."""
    row = person.call("GET", f"/api/projects/{project}/")
    (model,) = person.call("GET", "/api/ml/", project=project)
    (hook,) = person.call("GET", "/api/webhooks/", project=project)
    task = person.call("GET", "/api/tasks/", project=project, page_size=1)["tasks"][0]
    token = person.call("GET", "/api/current-user/token")["token"]
    return [
        Call("/health"),
        setup_call(row, person.server, token, model["extra_params"]),
        webhook_call(row, task, hook["headers"]),
    ]


def setup_call(project: Mapping[str, Any], hostname: str, token: str, extra_params: Any) -> Call:
    """Return the call that Label Studio makes when a model is connected, and before it asks for predictions."""
    created = int(datetime.fromisoformat(project["created_at"]).timestamp())
    return Call("/setup", {
        "project": f"{project['id']}.{created}", "schema": project["label_config"], "hostname": hostname,
        "access_token": token, "extra_params": extra_params,
    })  # fmt: skip


def webhook_call(project: Mapping[str, Any], task: Mapping[str, Any], headers: Mapping[str, str]) -> Call:
    """Return the call that Label Studio makes after an answer; ``headers`` are the webhook's, with its secret."""
    annotation = {"id": 1, "task": task["id"], "result": [], "was_cancelled": False}
    body = {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task, "project": project}
    return Call("/webhook", body, headers)


def startup_seconds(port: int, data_dir: str) -> float:
    """Return the seconds from starting the web process to its first answer."""
    command = [sys.executable, "-m", "backend", "web", "--port", str(port), "--data-dir", data_dir]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - started < 60:
            try:
                ask(f"http://127.0.0.1:{port}/health", 5)
            except OSError:
                time.sleep(0.02)
            else:
                return time.perf_counter() - started
        raise TimeoutError("the web process did not answer within a minute")
    finally:
        process.terminate()
        process.wait(20)


def steady(backend: str, call: Call) -> Load:
    """Send at a steady rate, whether answers come or not."""
    local = threading.local()
    start = time.perf_counter() + 0.2
    count = int(RATE * SECONDS)

    def send(number: int) -> tuple[float, str | None]:
        due = start + number / RATE
        time.sleep(max(due - time.perf_counter(), 0))
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False  # a proxy would be measured
        try:
            method = "GET" if call.body is None else "POST"
            answer = local.session.request(
                method, backend + call.path, json=call.body, headers=call.headers, timeout=30, allow_redirects=False
            )
            refusal = None if 200 <= answer.status_code < 300 else f"{answer.status_code} {answer.text[:200]}"
        except requests.RequestException as error:
            refusal = str(error)
        return time.perf_counter() - due, refusal

    with ThreadPoolExecutor(SENDERS) as pool:
        results = list(pool.map(send, range(count)))
    times = [seconds for seconds, _ in results]
    refusals = [refusal for _, refusal in results if refusal is not None]
    first = refusals[0] if refusals else None
    return Load(count, len(refusals), percentile(times, 0.5), percentile(times, 0.99), first)
