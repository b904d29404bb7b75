"""Two Label Studios with a project of the same id: each has addresses of its own, and what one asks stays its own."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.web_pages import CONFIG, connect_project, fill

from backend.store import ProjectRow, Store
from backend.store.siblings import Place
from backend.web import mlbackend

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def both(filled: Store, tmp_path: Path) -> tuple[ProjectRow, ProjectRow]:
    """A project with a history, and the same one on another server, of other images."""
    original = filled.projects.named("3")
    copy, _ = filled.projects.connect(
        studio_project_id=3, created_ts="1700000000", server="http://copy", token=None, backend_url="http://backend:9090",
        label_config=CONFIG, extra_params={"rounds": 2},
    )  # fmt: skip
    assert original is not None
    fill(filled, copy, tmp_path)
    filled.projects.set(copy.id, title="the copy")
    filled.projects.set(original.id, title="the original")
    return filled.projects.get(original.id), filled.projects.get(copy.id)


def test_each_is_reached_on_pages_in_the_api_and_in_downloads(
    browser: FlaskClient, filled: Store, both: tuple[ProjectRow, ProjectRow]
) -> None:
    listed = {row["name"]: row for row in browser.get("/api/projects").json}
    names = ["3", f"3-{both[1].id}"]
    assert list(listed) == names
    assert [listed[name]["server"] for name in names] == ["http://studio", "http://copy"]
    assert {row["project"] for row in listed.values()} == {3}
    index = browser.get("/projects").text
    for name, row in zip(names, both, strict=True):
        assert browser.get(f"/api/projects/{name}").json["title"] == row.title
        page = browser.get(f"/projects/{name}").text
        assert f"<h1>{row.title}</h1>" in page
        assert f'href="/projects/{name}"' in index
        for path in ("losses.csv", "predictions.csv", "predictions.json"):
            assert f'href="/api/projects/{name}/{path}"' in page
            answer = browser.get(f"/api/projects/{name}/{path}")
            assert f'filename="project-{name}-' in answer.headers["Content-Disposition"]
        assert f'data-figure="/projects/{name}/figures/' in page
        assert browser.get(f"/projects/{name}/figures/losses.json").status_code == 200
        assert f'src="/projects/{name}/images/' in page
        assert browser.get(f"/projects/{name}/images/0.png").status_code == 200
        assert f'action="/projects/{name}/final"' in page
        assert browser.post(f"/projects/{name}/retry", headers=SAME).location == f"/projects/{name}"
    assert browser.get("/projects/3-99").status_code == 404
    assert browser.get("/api/projects/3-").status_code == 404
    assert browser.get(f"/api/projects/{'9' * 30}").status_code == 404


def test_a_person_says_where_the_history_belongs(
    browser: FlaskClient, filled: Store, both: tuple[ProjectRow, ProjectRow]
) -> None:
    original, copy = both
    name = f"3-{copy.id}"
    page = browser.get(f"/projects/{name}").text
    assert 'name="from" value="3"' in page
    assert browser.post(f"/projects/{name}/history", data={"from": "3"}).status_code == 403, "not from our page"
    assert browser.post(f"/projects/{name}/history", data={"from": "3"}, headers=SAME).status_code == 303
    assert filled.projects.get(copy.id).take_from == original.id
    filled.projects.set(copy.id, place=Place.ASKED, place_text="Both have it.", take_from=None)
    assert 'id="begin-anew"' in browser.get(f"/projects/{name}").text
    answer = browser.post(f"/api/projects/{name}/history", json={"from": None})
    assert (answer.status_code, answer.json["name"]) == (202, name)
    assert (filled.projects.get(copy.id).place, filled.projects.get(copy.id).take_from) == (None, None)
    connect_project(filled, 4)
    for body, code in (({"from": "4"}, 409), ({"from": "x"}, 400), ({}, 400), ({"from": 3}, 400), ({"from": "8"}, 404)):
        assert browser.post(f"/api/projects/{name}/history", json=body).status_code == code, body
    filled.projects.set(copy.id, active=False)
    assert browser.post(f"/api/projects/{name}/history", json={"from": "3"}).status_code == 409


def test_predictions_are_of_the_project_whose_server_asks(
    browser: FlaskClient, filled: Store, both: tuple[ProjectRow, ProjectRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        mlbackend, "predict_tasks", lambda services, project, tasks: asked.append(project.id) or [{"result": []}]
    )
    body = {"project": "3.1700000000", "tasks": [{"id": 1}]}
    for caller in both:
        for row in both:
            filled.projects.set(row.id, called_at=100.0 + 10.0 * (row.id == caller.id))
        assert browser.post("/predict", json=body).status_code == 200
    assert asked == [row.id for row in both]
    for row in both:
        filled.projects.set(row.id, called_at=100.0)
    assert browser.post("/predict", json=body).status_code == 409
    assert len(asked) == 2


def test_a_training_is_asked_of_the_project_whose_queue_is_named(
    browser: FlaskClient, filled: Store, both: tuple[ProjectRow, ProjectRow]
) -> None:
    filled.of(both[1].id).rounds.plan(2, "pt4al-r002", [])
    project = {"id": 3, "created_at": "2023-11-14T22:13:20Z", "model_version": "pt4al-r002"}
    browser.post("/webhook", json={"action": "START_TRAINING", "project": project})
    assert [filled.projects.get(row.id).training_requested for row in both] == [False, True]
