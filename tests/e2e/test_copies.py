"""A copy of Label Studio, and a move to another address, with real servers."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from support.e2e_harness import CONFIG, Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer, free_port

from backend.demo.annotator import Annotator
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = pytest.mark.e2e

IMAGES, PARAMS = 40, {"rounds": 3, "labels_per_round": 5, "learner": "linear"}  # the history stays as it is
Serve = Callable[[LabelStudioServer | None], LabelStudioServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a Label Studio at an address of its own, on a copy of another one's data folder or on an empty one."""
    started: list[LabelStudioServer] = []

    def start(of: LabelStudioServer | None) -> LabelStudioServer:
        port, folder = free_port(), tmp_path / f"studio-{len(started)}"
        if of is not None:
            shutil.copytree(of.data_dir, folder)
        server = LabelStudioServer(port, folder, LABEL_STUDIO_HOST=f"http://127.0.0.1:{port}")
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def own_backend(tmp_path: Path) -> Iterator[Backend]:
    """A backend that finds Label Studio by what it calls itself."""
    made = Backend(tmp_path / "data", free_port())
    made.start()
    yield made
    made.end()


def open_model_page(server: LabelStudioServer, project: int) -> Annotator:
    person = Annotator(server.url, server.email, server.password)
    person.call("GET", "/api/ml/", project=project)
    return person


def wait_named(backend: Backend, server: LabelStudioServer, what: str, test: Callable[[dict[str, Any]], Any]) -> Any:
    """Wait until the project on a server passes a test; return its status."""

    def look(rows: Any) -> Any:
        return next((row for row in rows if row["server"] == server.url and test(row)), None)

    return wait_for(what, lambda: look(backend.get("/api/projects") or []), 180)


def versions(server: LabelStudioServer, project: int) -> dict[str, int]:
    return LabelStudio(server.url, [NamedToken("test", server.token)]).project(project).predictions.versions()


def answer(project: LabelingProject, person: Annotator, task: int) -> None:
    data = person.call("GET", f"/api/tasks/{task}/")["data"]
    person.annotate(task, project.result(project.label_of(data)))


def test_a_copy_lives_beside_the_original_and_a_move_takes_the_history_along(
    serve: Serve, own_backend: Backend, digits: tuple[list[Path], list[str]]
) -> None:
    first = serve(None)
    paths, labels = digits
    person = Annotator(first.url, first.email, first.password)
    truth = dict(zip([path.stem for path in paths[:IMAGES]], labels[:IMAGES], strict=True))
    project = LabelingProject(person, own_backend, truth, "copied", CONFIG)
    person.upload_images(project.id, paths[:IMAGES])
    person.connect_backend(project.id, own_backend.url, PARAMS)
    status = own_backend.wait_round(project.id, 0)
    for task in status["queue"]["task_ids"]:
        answer(project, person, task)
    status = own_backend.wait_round(project.id, 1)
    learned, labeled = status["history"], status["pool"]["labeled"]

    copy = serve(first)
    clerk = open_model_page(copy, project.id)
    both = wait_named(own_backend, copy, "the copy's first queue", lambda s: s["queue"]["task_ids"])
    assert both["name"] == f"{project.id}-{both['name'].partition('-')[2]}" != str(project.id)
    assert first.url in both["notice"]
    before = versions(first, project.id)
    answer(project, clerk, both["queue"]["task_ids"][0])
    wait_named(own_backend, copy, "the copy's answer", lambda s: s["pool"]["labeled"] == labeled + 1)
    answer(project, person, status["queue"]["task_ids"][0])
    status = wait_named(own_backend, first, "the original's answer", lambda s: s["queue"]["answered"] == 1)
    assert (status["name"], status["active"], status["history"]) == (str(project.id), True, learned)
    assert copy.url in status["notice"]
    assert versions(first, project.id) == before, "what is written for the copy goes to the copy"
    for name in (status["name"], both["name"]):
        page, table = (
            requests.get(f"{own_backend.url}{path}", timeout=30)
            for path in (f"/projects/{name}", f"/api/projects/{name}/losses.csv")
        )
        assert page.ok
        assert f'filename="project-{name}-losses.csv"' in table.headers["Content-Disposition"]

    first.stop()
    moved = serve(first)
    guest = open_model_page(moved, project.id)
    status = wait_named(own_backend, moved, "the move", lambda s: s["history"] and s["queue"]["task_ids"])
    assert (status["name"], status["round"], status["history"]) == (str(project.id), 1, learned)
    assert f"moved here from {first.url}" in status["notice"]
    old = wait_named(own_backend, first, "the old address to rest", lambda s: not s["active"])
    assert old["history"] == []
    answer(project, guest, status["queue"]["task_ids"][0])
    wait_named(own_backend, moved, "an answer after the move", lambda s: s["queue"]["answered"] == 2)
    assert wait_named(own_backend, copy, "the copy", lambda s: s["active"])["name"] == both["name"]
