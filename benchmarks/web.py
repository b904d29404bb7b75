"""Answer times of the web side under a steady load."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

from benchmarks.measure import percentile

RATE = 100.0  # requests a second, over all paths
SECONDS = 12.0  # for each path
SENDERS = 16


@dataclass(frozen=True)
class Load:
    """Answer times in seconds, from the moment at which a request was due."""

    requests: int
    failures: int
    p50: float
    p99: float


def web_load(backend: str, project: int, created: str) -> dict[str, Load]:
    """Put /health, /setup and /webhook under load, one after the other."""
    uid = f"{project}.{created}"
    bodies: dict[str, Mapping[str, Any] | None] = {
        "/health": None,
        "/setup": {"project": uid, "schema": "<View/>", "hostname": "", "access_token": ""},
        # A forged event is read and refused; a true one leaves a hint. Both have to be quick.
        "/webhook": {"action": "ANNOTATION_CREATED", "project": {"id": project}},
    }
    return {path: _steady(backend + path, body) for path, body in bodies.items()}


def startup_seconds(port: int, data_dir: str) -> float:
    """Return the seconds from starting the web process to its first answer."""
    command = [sys.executable, "-m", "backend", "web", "--port", str(port), "--data-dir", data_dir]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - started < 60:
            try:
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    return time.perf_counter() - started
            except requests.RequestException:
                time.sleep(0.02)
        raise TimeoutError("the web process did not answer within a minute")
    finally:
        process.terminate()
        process.wait(20)


def _steady(url: str, body: Mapping[str, Any] | None) -> Load:
    """Send at a steady rate, whether answers come or not."""
    local = threading.local()
    start = time.perf_counter() + 0.2
    count = int(RATE * SECONDS)

    def send(number: int) -> tuple[float, bool]:
        due = start + number / RATE
        time.sleep(max(due - time.perf_counter(), 0))
        if not hasattr(local, "session"):
            local.session = requests.Session()
        try:
            answer = (
                local.session.get(url, timeout=30) if body is None else local.session.post(url, json=body, timeout=30)
            )
            fine = answer.status_code < 500
        except requests.RequestException:
            fine = False
        return time.perf_counter() - due, fine

    with ThreadPoolExecutor(SENDERS) as pool:
        results = list(pool.map(send, range(count)))
    times = [seconds for seconds, _ in results]
    return Load(count, sum(not fine for _, fine in results), percentile(times, 0.5), percentile(times, 0.99))
