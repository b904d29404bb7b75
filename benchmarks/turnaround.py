"""A project of 5,000 images on a real Label Studio: the web side while workers train, and from the last answer on."""

import http.server
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError

from PIL import Image

from backend.demo.annotator import Annotator
from backend.server.own_processes import ask
from backend.store import Store
from benchmarks.images import colour_images
from benchmarks.measure import Log, Measure, limit
from benchmarks.timeline import Timeline
from benchmarks.web import Load, calls_of, web_load

IMAGES, SIDE, K = 5_000, 32, 100
CLASSES = ("a", "b", "c", "d")
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="class" toName="image">'
    + "".join(f'<Choice value="{name}"/>' for name in CLASSES)
    + "</Choices></View>"
)
PATIENCE_S = 600.0


def run(person: Annotator, backend: str, store: Store, log: Log) -> list[Measure]:
    """Connect, load the web side during the pretext training, answer a round, and time the next queue.

    ``store`` is the backend's, to be looked into.
    """
    with _image_server() as address:
        project = person.create_project("Turnaround", CONFIG)
        person.import_tasks(project, [{"data": {"image": f"{address}/{i}.png"}} for i in range(IMAGES)])
        log(f"turnaround: {IMAGES:,} images of {SIDE} px; connecting")
        started = time.perf_counter()
        person.connect_backend(project, backend, {"rounds": 10, "labels_per_round": K})
        _wait(backend, project, lambda status: status["pool"]["images"] == IMAGES)
        synced = time.perf_counter() - started
        _wait(backend, project, lambda status: status["stage"] == "pretext" and status["progress"])
        log("web: 100 requests a second while the pretext network trains")
        loads = web_load(backend, calls_of(person, project))
        status = _wait(backend, project, lambda status: status["queue"]["model_version"] == "pt4al-r000")
        first = time.perf_counter() - started
        recorded = status["stage"] != "recording"
        log(f"turnaround: first queue after {first:.0f} s; answering {status['queue']['size']} tasks")
        for task in status["queue"]["task_ids"][: status["queue"]["size"]]:
            person.annotate(task, _result(CLASSES[task % len(CLASSES)]))
        last = time.time()
        with Timeline(store, _key(store, project), 0) as timeline:
            strays = _label_until_live(person, backend, project)
            turned = time.time()
        parts = ", ".join(f"{name} {value:.1f}" for name, value in timeline.parts(last, turned).items())
    return [
        limit(f"last answer to next queue live, {IMAGES:,} images", "s", turned - last, 60, parts),
        limit("random tasks served meanwhile", "tasks", float(strays), 0),
        limit(f"connecting to first queue live, {IMAGES:,} images", "s", first, None,
              f"images fetched after {synced:.0f} s; recording {'done' if recorded else 'goes on behind it'}"),
        *_web_measures(loads),
    ]  # fmt: skip


def _web_measures(loads: dict[str, Load]) -> list[Measure]:
    return [
        limit(f"{path} p99, 100 requests a second, workers training", "ms", 1000 * load.p99, 100,
              f"{load.requests} requests, p50 {1000 * load.p50:.1f} ms")
        for path, load in loads.items()
    ] + [
        limit("requests of these that were not answered with success", "requests",
              float(sum(load.failures for load in loads.values())), 0,
              "; ".join(f"{path}: {load.refusal}" for path, load in loads.items() if load.refusal)),
    ]  # fmt: skip


def _key(store: Store, project: int) -> int:
    row = store.projects.find(project)
    if row is None:
        raise LookupError(f"project {project} is not in the backend's store")
    return row.id


def _label_until_live(person: Annotator, backend: str, project: int) -> int:
    """Look at what Label Studio serves until the next round is live; count tasks of neither queue nor reserve.

    A task that a person has opened stays theirs when the round is switched: Label Studio serves it again, without the
    predictions of the round that it came from.
    """
    strays, deadline = 0, time.perf_counter() + PATIENCE_S
    opened: set[int] = set()
    while time.perf_counter() < deadline:
        known = set(_status(backend, project)["queue"]["task_ids"])
        task = person.next_task(project)
        carries = task is not None and any(one["model_version"].startswith("pt4al-r") for one in task.predictions)
        if task is not None and carries:
            opened.add(task.id)
        elif task is not None and task.id not in known | opened:
            strays += 1
        if person.call("GET", f"/api/projects/{project}/")["model_version"] == "pt4al-r001":
            return strays
        time.sleep(0.5)
    raise TimeoutError(f"no second round after {PATIENCE_S:.0f} s: {_status(backend, project)}")


def _wait(backend: str, project: int, test: Any) -> dict[str, Any]:
    deadline = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < deadline:
        status = _status(backend, project)
        if status and test(status):
            return status
        time.sleep(0.2)
    raise TimeoutError(f"waited {PATIENCE_S:.0f} s; last seen: {_status(backend, project)}")


def _status(backend: str, project: int) -> dict[str, Any]:
    try:
        return json.loads(ask(f"{backend}/api/projects/{project}", 30))
    except HTTPError:
        return {}


def _result(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": [label]}}]


@contextmanager
def _image_server() -> Iterator[str]:
    """Serve generated images as PNG over HTTP."""
    images = colour_images(IMAGES, SIDE, seed=0)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            buffer = io.BytesIO()
            Image.fromarray(images[int(self.path[1:-4])]).save(buffer, "PNG")
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(buffer.getvalue())))
            self.end_headers()
            self.wfile.write(buffer.getvalue())

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
