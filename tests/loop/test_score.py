"""Scoring single tasks ends when nobody waits for it any more, against a small server that is slow."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.studio_web import Web, png, reply
from support.web_pages import connect_project, fill

from backend.config import Settings
from backend.loop.context import Context, OpenProject, open_project
from backend.loop.steps import score
from backend.queueing.queues import Queueing
from backend.store import Store

TASKS = list(range(1000, 1100))


@pytest.fixture
def project(web: Web, tmp_path: Path) -> OpenProject:
    """Project 3 with a model, on a server of which every image takes 50 ms."""
    settings = Settings(data_dir=tmp_path, label_studio_url=web.url)
    store = Store(settings.database, tmp_path)
    fill(store, connect_project(store), tmp_path)
    context = Context(settings, store, Queueing(f"unix://{tmp_path}/none.sock"))
    project = open_project(context, store.projects.find(3).id)
    project.files.model(0).touch()
    web.answer = slow_images()
    return project


def score_of(project: OpenProject, task_ids: list[int], until: float) -> dict[int, list[float]]:
    parts = project.store, project.studio, project.files, project.labeling, project.encoders
    return score.score_tasks(*parts, task_ids, until)


def slow_images() -> Callable[..., None]:
    def answer(handler, number: int) -> None:
        if "/api/tasks" in handler.path:
            rows = [
                {"id": task, "data": {"image": f"/data/upload/3/{task}.png"}, "updated_at": "2026-01-01T00:00:00Z"}
                for task in TASKS
            ]
            reply(handler, 200, json.dumps({"tasks": rows, "total": len(rows)}))
        elif handler.path.startswith("/data/upload"):
            time.sleep(0.05)
            reply(handler, 200, png(99), "image/png")
        else:
            reply(handler, 404)

    return answer


def test_tasks_that_nobody_waits_for_any_more_are_not_looked_at(project: OpenProject, web: Web) -> None:
    assert score_of(project, TASKS, time.time() - 1) == {}
    assert web.requests == []


def test_images_are_not_fetched_on_after_the_deadline(project: OpenProject, web: Web) -> None:
    begun = time.time()
    assert score_of(project, TASKS, begun + 0.2) == {}
    images = [path for _, path, _ in web.requests if path.startswith("/data/upload")]
    assert 0 < len(images) < len(TASKS)


def test_only_so_many_tasks_are_asked_for(project: OpenProject, web: Web, monkeypatch) -> None:
    monkeypatch.setattr(score, "download_images", lambda studio, refs, sides, ranges: [])
    assert score_of(project, TASKS, time.time() + 60) == {}
    asked = [path for _, path, _ in web.requests if path.startswith("/api/tasks")]
    assert {task for task in TASKS if any(str(task) in path for path in asked)} == set(TASKS[: score.MOST_UNSEEN])
