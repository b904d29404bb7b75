"""A pool of which one image in twenty is broken: the project completes, each is listed, and a mended one is used."""

import os
import time
from collections.abc import Callable

import pytest
import requests
from support.e2e_harness import CONFIG, Backend, LabelingProject
from support.labelstudio import LabelStudioServer
from support.studio_web import Web, reply

from backend.demo.annotator import Annotator

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

POOL = int(os.environ.get("FAULTS_POOL") or 2000)
BROKEN = POOL // 20
KINDS = ("gone", "page", "cut", "empty", "loop")


def test_a_pool_with_one_broken_image_in_twenty_is_completed_and_mended(
    label_studio: LabelStudioServer, make_backend: Callable[..., Backend], web: Web, digits, figures
) -> None:
    paths, labels = digits
    bodies = [path.read_bytes() for path in paths]
    mended = False

    def answer(handler, _) -> None:
        number = int(handler.path.partition("-")[2][:4])
        body = bodies[number % len(bodies)]
        kind = KINDS[number // 20 % len(KINDS)] if number % 20 == 0 and not mended else None
        if kind == "gone":
            reply(handler, 404, b"")
        elif kind == "page":
            reply(handler, 200, b"<html>Sign in</html>", "text/html")
        elif kind == "loop":
            reply(handler, 302, b"", Location=handler.path)
        else:
            reply(handler, 200, {"cut": body[:60], "empty": b""}.get(kind or "", body), "image/png")

    web.answer = answer
    backend = make_backend(ALLOWED_IMAGE_HOSTS="127.0.0.1")
    annotator = Annotator(label_studio.url, label_studio.email, label_studio.password)
    truth = {f"digit-{number:04d}": labels[number % len(labels)] for number in range(POOL)}
    project = LabelingProject(annotator, backend, truth, "broken pool", CONFIG)
    for start in range(0, POOL, 500):
        annotator.import_tasks(
            project.id,
            [{"data": {"image": f"{web.url}/digit-{n:04d}.png"}} for n in range(start, min(start + 500, POOL))],
        )
    begun = time.monotonic()
    annotator.connect_backend(project.id, backend.url, {"rounds": 2, "labels_per_round": 10})
    status = backend.wait_round(project.id, 0, 900)
    took = time.monotonic() - begun
    pool = {"tasks": POOL, "images": POOL - BROKEN, "broken": BROKEN, "labeled": 0}
    assert status["pool"].items() >= pool.items()
    listed = backend.get(f"/api/projects/{project.id}/broken")
    assert len(listed) == BROKEN
    assert all(row["reason"] for row in listed)
    reasons = " ".join({row["reason"] for row in listed})
    for words in ("404", "web page", "empty", "more than 20 times"):
        assert words in reasons
    mended = True
    requests.post(f"{backend.url}/api/projects/{project.id}/advance", timeout=10)
    status = backend.wait(project.id, "the mended images", lambda s: s["pool"]["images"] == POOL, 300)
    assert status["pool"]["broken"] == 0
    figures(pool=POOL, broken=BROKEN, listed=len(listed), first_queue_s=round(took), mended=BROKEN)
