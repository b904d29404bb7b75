"""The web side on a real store and a real Redis; no worker runs."""

import base64
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flask import Request

from backend.config import SECRET_HEADER, Settings
from backend.project_files import Files
from backend.queueing.queues import ADVANCE
from backend.store import AskRole, AskState, Store
from backend.store.rounds import Ask
from backend.store.tables import Answer
from backend.store.tasks import TaskChange
from backend.web.app import create_app

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="digit" toName="image"><Choice value="zero"/><Choice value="one"/></Choices></View>"""
SETUP = {
    "project": "3.1700000000",
    "schema": CONFIG,
    "hostname": "http://localhost:8080",
    "access_token": "t0ken",
    "extra_params": {"rounds": 4},
}


@pytest.fixture
def settings(tmp_path: Path, private_redis: str) -> Settings:
    return Settings(data_dir=tmp_path, redis_url=private_redis)


@pytest.fixture
def app(settings: Settings):
    app = create_app(settings)
    app.extensions["pt4al"].queueing.connection.flushall()
    yield app
    app.extensions["pt4al"].store.close()
    app.extensions["pt4al"].queueing.connection.close()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def store(app) -> Store:
    return app.extensions["pt4al"].store


def waiting(app) -> int:
    return app.extensions["pt4al"].queueing.depth(ADVANCE)


def test_importing_the_web_side_loads_no_torch() -> None:
    code = "import sys, backend.web.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_web_side_leaves_torch_importable() -> None:
    code = "import backend.web.app, torch; torch.zeros(1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_applications_in_one_process_do_not_disturb_each_other(tmp_path: Path, private_redis: str) -> None:
    passwords = {"one": {}, "two": {"basic_auth_user": "me", "basic_auth_pass": "secret"}}
    apps = {
        name: create_app(Settings(data_dir=tmp_path / name, redis_url=private_redis, **login))
        for name, login in passwords.items()
    }
    login = {"Authorization": "Basic " + base64.b64encode(b"me:secret").decode()}
    clients = {name: app.test_client() for name, app in apps.items()}
    for studio_project_id in (3, 4, 5, 6):  # odd ones in the first, even ones in the second, by turns
        client = clients["one" if studio_project_id % 2 else "two"]
        body = {**SETUP, "project": f"{studio_project_id}.1700000000"}
        assert client.post("/setup", json=body, headers=login).status_code == 200
    for name, ids in {"one": [3, 5], "two": [4, 6]}.items():
        services = apps[name].extensions["pt4al"]
        assert services.settings.data_dir == tmp_path / name
        assert sorted(row.studio_project_id for row in services.store.projects.all()) == ids
        listed = clients[name].get("/api/projects", headers=login).json
        assert sorted(project["project"] for project in listed) == ids
        unknown = {"project": f"{9 - ids[0]}.1700000000", "tasks": []}  # the other's: 9 - 3 is 6, and 9 - 4 is 5
        assert clients[name].post("/predict", json=unknown, headers=login).status_code == 400
        known = {"project": f"{ids[0]}.1700000000", "tasks": []}
        assert clients[name].post("/predict", json=known, headers=login).status_code == 200
    assert (clients["one"].get("/api/projects").status_code, clients["two"].get("/api/projects").status_code) == (
        200,
        401,
    )
    for app in apps.values():
        app.extensions["pt4al"].store.close()
        app.extensions["pt4al"].queueing.connection.close()


def test_label_studio_mls_own_application_stays_as_it_is(app) -> None:
    from label_studio_ml import api, exceptions

    assert api._server is not app
    assert "pt4al" not in api._server.extensions
    assert api._server.view_functions["_setup"] is api._setup  # with its decorator
    assert exceptions.exception_handler(len) is not len


def test_trying_again_answers_without_redis(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, redis_url=f"unix://{tmp_path}/none.sock"))
    app.test_client().post("/setup", json=SETUP)
    assert app.test_client().post("/api/projects/3/advance").status_code == 202
    app.extensions["pt4al"].store.close()


def test_health_says_up(client) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.json["status"]) == (200, "UP")


def test_setup_notes_the_project_and_asks_for_it_once(client, app, store: Store) -> None:
    for _ in range(3):
        answer = client.post("/setup", json=SETUP, headers={"Host": "backend:9090"})
        assert (answer.status_code, answer.json) == (200, {"model_version": "pt4al-r000-pool"})
    project = store.projects.find(3)
    assert (project.server, project.backend_url) == ("http://localhost:8080", "http://backend:9090")
    assert project.extra_params == {"rounds": 4}
    assert store.projects.token(project) == "t0ken"
    assert waiting(app) == 1


def test_setup_answers_while_redis_is_away(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, redis_url=f"unix://{tmp_path}/none.sock"))
    assert app.test_client().post("/setup", json=SETUP).status_code == 200
    assert app.extensions["pt4al"].store.projects.find(3) is not None
    app.extensions["pt4al"].store.close()


def test_label_studio_url_wins_over_the_hostname(tmp_path: Path, private_redis: str) -> None:
    app = create_app(Settings(data_dir=tmp_path, redis_url=private_redis, label_studio_url="http://label-studio:8080/"))
    app.test_client().post("/setup", json=SETUP)
    assert app.extensions["pt4al"].store.projects.find(3).server == "http://label-studio:8080"
    app.extensions["pt4al"].store.close()


@pytest.mark.parametrize("hostname", ["javascript:alert(1)", "http://", "http://[::", "http://a:b", "", None, 5])
def test_an_address_that_is_none_never_becomes_a_link(tmp_path: Path, private_redis: str, hostname: object) -> None:
    app = create_app(Settings(data_dir=tmp_path, redis_url=private_redis, label_studio_url="http://studio"))
    assert app.test_client().post("/setup", json={**SETUP, "hostname": hostname}).status_code == 200
    assert app.extensions["pt4al"].store.projects.find(3).hostname is None
    app.extensions["pt4al"].store.close()


def test_setup_refuses_unknown_parameters_in_body_and_status_line_and_changes_nothing(client, store: Store) -> None:
    client.post("/setup", json=SETUP)
    answer = client.post("/setup", json={**SETUP, "extra_params": {"sampler": "oracle"}})
    assert answer.status_code == 400
    for text in (answer.json["error"], answer.status):
        assert "sampler" in text
        assert "least_confidence" in text
    assert store.projects.find(3).extra_params == {"rounds": 4}


def test_a_sampler_that_the_labels_cannot_serve_is_refused_with_those_that_work(client, store: Store) -> None:
    client.post("/setup", json=SETUP)
    several = SETUP["schema"].replace("<Choices ", '<Choices choice="multiple" ')
    body = {**SETUP, "schema": several, "extra_params": {"sampler": "entropy"}}
    answer = client.post("/setup", json=body)
    assert answer.status_code == 400
    assert "'entropy' needs one posterior over classes that exclude each other" in answer.json["error"]
    assert "multi_label" in answer.json["error"]
    assert "uncertainty_herding" in answer.json["error"]
    assert store.projects.find(3).extra_params == {"rounds": 4}
    assert client.post("/setup", json={**body, "extra_params": {"sampler": "core_set"}}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/setup", {}),
        ("/setup", {**SETUP, "project": "three"}),
        ("/setup", {**SETUP, "project": "9" * 40 + ".1"}),
        ("/setup", [1]),
        ("/predict", {"tasks": "all", "project": "3.1700000000"}),
        ("/predict", {"tasks": [], "project": "4.1"}),
        ("/webhook", {}),
        ("/webhook", {"action": "ANNOTATION_CREATED"}),
        ("/webhook", {"action": "ANNOTATION_CREATED", "project": {"id": "x"}}),
        ("/train", {"project": 5}),
        ("/train", {"project": "3.1700000000", "annotations": 5}),
        ("/versions", {"project": "x"}),
    ],
)
def test_bad_bodies_get_one_sentence(client, path: str, body: object) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert "Traceback" not in answer.text
    assert set(answer.json) == {"error"}


def test_webhook_wakes_the_project_once_however_often_it_comes(client, app) -> None:
    client.post("/setup", json=SETUP)
    app.extensions["pt4al"].queueing.connection.flushall()
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 3}, "annotation": {}, "task": {}}
    assert [client.post("/webhook", json=event).status_code for _ in range(5)] == [201] * 5
    assert waiting(app) == 1


def test_webhook_of_an_unknown_project_changes_nothing(client, app) -> None:
    assert client.post("/webhook", json={"action": "TASKS_CREATED", "project": {"id": 99}}).status_code == 201
    assert waiting(app) == 0


def test_start_training_is_remembered(client, store: Store) -> None:
    client.post("/setup", json=SETUP)
    assert not store.projects.find(3).training_requested
    client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 3}})
    assert store.projects.find(3).training_requested


def test_start_training_with_every_answer_does_not_end_rounds(client, store: Store) -> None:
    client.post("/setup", json=SETUP)
    project = {"id": 3, "start_training_on_annotation_update": True}
    client.post("/webhook", json={"action": "START_TRAINING", "project": project})
    assert not store.projects.find(3).training_requested


def test_start_training_of_a_namesake_on_another_server_is_not_ours(client, store: Store) -> None:
    client.post("/setup", json=SETUP)
    other = {"id": 3, "created_at": "2020-01-01T00:00:00Z"}
    client.post("/webhook", json={"action": "START_TRAINING", "project": other})
    assert not store.projects.find(3).training_requested
    ours = {"id": 3, "created_at": "2023-11-14T22:13:20.123456Z"}  # 1700000000
    client.post("/webhook", json={"action": "START_TRAINING", "project": ours})
    assert store.projects.find(3).training_requested


def test_versions_answers_get_and_post(client) -> None:
    client.post("/setup", json=SETUP)
    assert client.get("/versions").json == {"versions": []}
    assert client.post("/versions", json={"project": SETUP["project"]}).json["versions"] == []


def test_status_of_an_unknown_project_says_what_to_do(client) -> None:
    answer = client.get("/api/projects/8")
    assert answer.status_code == 404
    assert "Model" in answer.json["error"]


def test_status_of_an_empty_project_waits_and_says_so(client) -> None:
    client.post("/setup", json=SETUP)
    status = client.get("/api/projects/3").json
    assert status["stage"] == "syncing"
    assert "no tasks" in status["error"]
    assert (status["project"], status["rounds"], status["history"]) == (3, 4, [])
    assert set(status) >= {"progress", "pool", "round", "queue", "config", "advice"}


def label_three(store: Store, tmp_path: Path) -> int:
    """A project with three images, round 0 answered by a model, round 1 live with tasks 12 and 10."""
    key = store.projects.find(3).id
    store.of(key).tasks.apply([TaskChange(10 + i, "x", None, Answer.NONE, None) for i in range(3)])
    store.of(key).tasks.images_fetched({10: 0, 11: 1, 12: 2})
    store.of(key).rounds.plan(0, "pt4al-r000", [Ask(11, 0.0, AskRole.QUERY)])
    store.of(key).rounds.go_live(0)
    store.of(key).rounds.set(
        0,
        has_model=True,
        classes=["zero", "one"],
        labels=1,
        holdout_size=10,
        holdout_quality=8,
        holdout_squares=8,
        state="closed",
    )
    np.save(Files.of(tmp_path, key).probs(0), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32))
    store.of(key).rounds.plan(1, "pt4al-r001", [Ask(12, 0.6, AskRole.QUERY), Ask(10, 0.9, AskRole.HOLDOUT)])
    store.of(key).rounds.mark(1, [12, 10], AskState.POSTED)
    store.of(key).rounds.go_live(1)
    return key


def test_status_lists_queue_and_history(client, store: Store, tmp_path: Path) -> None:
    client.post("/setup", json=SETUP)
    key = label_three(store, tmp_path)
    store.of(key).tasks.apply([TaskChange(12, "x", None, Answer.LABELED, "one")])
    status = client.get("/api/projects/3").json
    assert status["round"] == 1
    assert status["queue"] == {"model_version": "pt4al-r001", "size": 2, "answered": 1, "ahead": 0, "task_ids": [10]}
    entry = status["history"][0]
    assert (entry["holdout_accuracy"], entry["holdout_size"], entry["labels"]) == (0.8, 10, 1)
    assert entry["interval"] == pytest.approx([0.4902, 0.9433], abs=1e-4)  # Wilson, 8 of 10
    assert status["pool"]["labeled"] == 1
    assert (status["problem"], status["metric"], status["control"]) == ("single_label", "accuracy", "digit")


def test_predict_answers_each_task_in_order_from_stored_scores(client, store: Store, tmp_path: Path) -> None:
    client.post("/setup", json=SETUP)
    label_three(store, tmp_path)
    tasks = [{"id": 12, "data": {}}, {"id": 10, "data": {}}]
    answer = client.post("/predict", json={"tasks": tasks, "project": SETUP["project"], "label_config": CONFIG})
    assert answer.json["model_version"] == "pt4al-r000-pool"
    results = answer.json["results"]
    assert [r["score"] for r in results] == pytest.approx([0.6, 0.9])
    assert [r["result"][0]["value"]["choices"] for r in results] == [["one"], ["zero"]]
    assert {r["model_version"] for r in results} == {"pt4al-r000-pool"}


def test_predict_without_preannotations_gives_scores_only(client, store: Store, tmp_path: Path) -> None:
    client.post("/setup", json={**SETUP, "extra_params": {"preannotate": False}})
    label_three(store, tmp_path)
    answer = client.post("/predict", json={"tasks": [{"id": 12}], "project": SETUP["project"]})
    assert answer.json["results"] == [{"result": [], "score": pytest.approx(0.6), "model_version": "pt4al-r000-pool"}]


def test_predict_before_any_model_answers_each_task(client) -> None:
    client.post("/setup", json=SETUP)
    answer = client.post("/predict", json={"tasks": [{"id": 1}, {"id": 2}], "project": SETUP["project"]})
    assert [(r["result"], r["score"]) for r in answer.json["results"]] == [([], 0.0), ([], 0.0)]


@pytest.mark.parametrize("params", [True, [1], "x", {"tasks": []}, {"project": 5, "unknown": 1}])
@pytest.mark.parametrize("path", ["/predict", "/train"])
def test_parameters_of_a_request_reach_no_argument_of_ours(client, path: str, params: object) -> None:
    client.post("/setup", json=SETUP)
    answer = client.post(path, json={"project": SETUP["project"], "tasks": [], "annotations": [{}], "params": params})
    assert answer.status_code < 300


class TestBasicAuth:
    @pytest.fixture
    def settings(self, tmp_path: Path, private_redis: str) -> Settings:
        return Settings(data_dir=tmp_path, redis_url=private_redis, basic_auth_user="me", basic_auth_pass="pass")

    @pytest.fixture
    def login(self) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(b"me:pass").decode()}

    def test_every_route_but_health_asks_for_it(self, app, client) -> None:
        assert client.get("/health").status_code == 200
        for rule in app.url_map.iter_rules():
            if rule.rule == "/health" or rule.endpoint == "static":
                continue
            path = rule.rule.replace("<int:studio_project_id>", "1")
            method = "POST" if "POST" in rule.methods else "GET"
            answer = client.open(path, method=method, json={})
            assert answer.status_code == 401, path
            assert "WWW-Authenticate" in answer.headers

    def test_the_right_password_passes_and_a_wrong_one_does_not(self, client, login) -> None:
        assert client.post("/setup", json=SETUP, headers=login).status_code == 200
        wrong = {"Authorization": "Basic " + base64.b64encode(b"me:word").decode()}
        assert client.post("/setup", json=SETUP, headers=wrong).status_code == 401

    def test_behind_a_password_any_name_will_do(self, client, login) -> None:
        headers = {"Host": REBOUND, "Origin": f"http://{REBOUND}"}
        assert client.post("/api/projects/8/advance", headers=headers).status_code == 401
        assert client.post("/api/projects/8/advance", headers={**headers, **login}).status_code == 404

    def test_the_webhook_takes_the_secret_of_its_project_only(self, client, store: Store, login) -> None:
        client.post("/setup", json=SETUP, headers=login)
        client.post("/setup", json={**SETUP, "project": "4.1700000000"}, headers=login)
        secret = store.projects.webhook_secret(store.projects.find(3))
        event = {"action": "ANNOTATION_CREATED", "project": {"id": 3}}
        assert client.post("/webhook", json=event, headers={SECRET_HEADER: secret}).status_code == 201
        assert client.post("/webhook", json=event, headers={SECRET_HEADER: "guess"}).status_code == 401
        other = {"action": "ANNOTATION_CREATED", "project": {"id": 4}}
        assert client.post("/webhook", json=other, headers={SECRET_HEADER: secret}).status_code == 401

    @pytest.mark.parametrize("headers", [{}, {SECRET_HEADER: "guess"}, {"Authorization": "Basic bWU6d29yZA=="}])
    def test_the_body_of_a_stranger_is_never_read(self, client, headers: dict[str, str]) -> None:
        client.post("/setup", json=SETUP, headers={"Authorization": "Basic bWU6cGFzcw=="})
        for path in ("/webhook", "/predict", "/setup", "/api/projects/3/final"):
            body = Untouched(b"[" + b"{}," * 100_000)
            answer = client.post(path, input_stream=body, content_type="application/json", headers=headers)
            assert answer.status_code == 401


class Untouched(io.BytesIO):
    """A body that nobody may read."""

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError("the body was read")

    readinto = readline = read  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("path", "mib", "code"),
    [("/setup", 5, 413), ("/webhook", 8, 201), ("/webhook", 17, 413), ("/predict", 30, 200), ("/predict", 33, 413)],
)
def test_each_route_has_its_own_limit(client, path: str, mib: int, code: int) -> None:
    client.post("/setup", json=SETUP)
    body = {"action": "TASKS_CREATED", "tasks": [], "rest": "x" * (mib * 2**20)}
    body["project"] = {"id": 3} if path == "/webhook" else SETUP["project"]
    answer = client.post(path, json=body)
    assert answer.status_code == code
    assert code != 413 or "larger than" in answer.json["error"]


@pytest.mark.parametrize("body", [b"[" + b"{}," * 2_000_000 + b"1]", b"[" + b"9999," * 2_000_000 + b"1]"])
def test_a_body_of_too_many_values_is_not_parsed(client, monkeypatch, body: bytes) -> None:
    monkeypatch.setattr(Request, "get_json", lambda *_, **__: pytest.fail("it was parsed"))
    for path in ("/webhook", "/predict"):
        answer = client.post(path, data=body, content_type="application/json")
        assert (answer.status_code, "2,000,000 values" in answer.json["error"]) == (413, True)


def test_as_many_tasks_as_label_studio_sends_at_once_are_answered(client) -> None:
    client.post("/setup", json=SETUP)
    data = {"image": "http://studio/data/upload/3/8c1f2a77-00001.png"}
    task = {"data": data, "meta": {}, **dict.fromkeys("abcdefghijklmno")}
    tasks = [{"id": number, **task} for number in range(50_000)]
    answer = client.post("/predict", json={"project": SETUP["project"], "tasks": tasks})
    assert (answer.status_code, len(answer.json["results"])) == (200, 50_000)


OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 202),  # a script
        (OWN, 202),
        ({"Origin": "http://localhost"}, 202),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://other.localhost"}, 403),
        ({"Origin": "http://evil"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_the_page_of_another_site_cannot_try_again(client, store: Store, app, headers: dict, code: int) -> None:
    client.post("/setup", json=SETUP)
    key = store.projects.find(3).id
    token = store.of(key).jobs.start("retrain")
    store.of(key).jobs.fail("retrain", token, "no memory")
    app.extensions["pt4al"].queueing.wake_received(key)
    assert client.post("/api/projects/3/advance", headers=headers).status_code == code
    done = code == 202
    assert store.of(key).jobs.all()[0].failures == (0 if done else 1)
    assert waiting(app) == (2 if done else 1)


REBOUND = "evil.example:9090"
OURS = [
    "localhost:9090", "127.0.0.1:9090", "[::1]:9090", "backend:9090", "nas.local", "a.svc.cluster.local",
    "gpu.internal",
]  # fmt: skip


def post_from_a_page(app, host: str) -> int:
    """Press a button on a page that the browser takes for ours: 404 if it may, for the project is not there."""
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    answers = [app.test_client().post("/api/projects/8/advance", headers=headers)]
    del headers["Sec-Fetch-Site"]  # browsers leave it out where there is no TLS
    answers.append(app.test_client().post("/api/projects/8/advance", headers=headers))
    [code] = {answer.status_code for answer in answers}
    assert code != 403 or f"DASHBOARD_URL=http://{host}" in answers[0].json["error"]
    return code


@pytest.mark.parametrize(
    ("host", "code"), [*((host, 404) for host in OURS), (REBOUND, 403), ("1.2.3.4.evil.example", 403)]
)
def test_a_page_under_a_strangers_name_for_this_machine_can_press_no_button(app, host: str, code: int) -> None:
    assert post_from_a_page(app, host) == code


def test_a_name_that_the_operator_or_label_studio_calls_us_by_is_ours(app, client, tmp_path: Path) -> None:
    assert post_from_a_page(app, "al.example.com") == 403
    client.post("/setup", json=SETUP, headers={"Host": "al.example.com:9090"})
    assert post_from_a_page(app, "al.example.com") == 404
    assert post_from_a_page(app, REBOUND) == 403


def test_the_dashboards_configured_name_is_ours(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, dashboard_url="https://al.example.com/"))
    assert post_from_a_page(app, "al.example.com") == 404
    app.extensions["pt4al"].store.close()


def test_the_page_of_another_site_can_post_nowhere(app, client) -> None:
    posted = [rule.rule for rule in app.url_map.iter_rules() if "POST" in rule.methods]
    assert {"/setup", "/webhook", "/predict"} < set(posted)
    for rule in posted:
        path = rule.replace("<int:studio_project_id>", "3")
        answer = client.post(path, json=SETUP, headers={"Sec-Fetch-Site": "cross-site", "Origin": "http://evil"})
        assert answer.status_code == 403, path
        assert "another site" in answer.json["error"]


def test_setup_is_quick(client) -> None:
    client.post("/setup", json=SETUP)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        client.post("/setup", json=SETUP)
        times.append(time.perf_counter() - started)
    assert min(times) < 1, "label studio gives up after 3 s"  # the others may wait for a busy machine


@pytest.mark.parametrize("field", ["schema", "access_token", "hostname"])
def test_half_a_surrogate_pair_is_refused(client, field: str) -> None:
    body = json.dumps({**SETUP, field: "http://x\ud800"})
    answer = client.post("/setup", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert "not Unicode" in answer.get_data(as_text=True)
