"""Every route with generated requests: no failure of ours, no traceback, no hang.

FAULTS_REQUESTS says how many; `make faults` sends 10,000.
"""

import base64
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.web_pages import CONFIG, connect_project, fill

from backend.config import SECRET_HEADER, Settings
from backend.dashboard.assets import plotly_version
from backend.project_files import Files
from backend.queueing.queues import Queueing
from backend.store import Store
from backend.web import predict
from backend.web.app import create_app
from backend.web.formats import FORMATS

REQUESTS = int(os.environ.get("FAULTS_REQUESTS") or 400)
HANG_S = 5.0
# What stands in a route's place holders: something that is there. A new one has to be added here.
HOLDERS = {
    "project_name": ["3"], "pool_index": [0], "name": ["curve", "confusion"], "kind": ["onnx", "safetensors"],
    "filename": ["live.js"], "version": [plotly_version()], "of": ["labels", "predictions"], "form": [*FORMATS],
    "whose": ["annotators", "model", "asked"],
}  # fmt: skip
PASSWORD = {"Authorization": "Basic " + base64.b64encode(b"me:pass").decode()}
METHODS = ("POST", "POST", "POST", "GET", "GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE")

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-1, 101), st.just(2**63), st.just(-(2**80)), st.just(3),
    st.floats(), st.text(max_size=40), st.sampled_from(["3.1700000000", "3", "0.0", "-1.5", "9" * 400, "\x00"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
PROJECTS = st.one_of(st.just("3.1700000000"), st.just({"id": 3}), st.fixed_dictionaries({"id": SCALARS}), VALUES)
PARAMS = st.one_of(
    st.dictionaries(
        st.sampled_from(["rounds", "seed", "preset", "network", "image_size", "holdout_fraction"]), SCALARS
    ),
    VALUES,
)
TASKS = st.one_of(st.lists(st.one_of(st.fixed_dictionaries({"id": SCALARS}), VALUES), max_size=4), VALUES)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "project": PROJECTS,
    "schema": st.one_of(st.just(CONFIG), VALUES),
    "label_config": VALUES,
    "hostname": st.one_of(st.sampled_from(["http://studio", "x:y", "http://", "http://[::"]), VALUES),
    "access_token": VALUES,
    "extra_params": PARAMS,
    "tasks": TASKS,
    "action": st.one_of(st.sampled_from(["START_TRAINING", "ANNOTATION_CREATED", "TASKS_DELETED"]), VALUES),
    "params": VALUES,
    "force_reload": VALUES,
    "annotation": VALUES,
    "annotations": VALUES,
    "task": VALUES,
    "job": VALUES,
    "confidence": st.one_of(st.floats(0, 1), SCALARS),
    "round": SCALARS,
}
BODIES = st.one_of(
    st.fixed_dictionaries({}, optional=FIELDS).map(lambda body: json.dumps(body).encode()),
    st.fixed_dictionaries({}, optional=FIELDS).map(lambda body: json.dumps(body).encode()),
    VALUES.map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=200),
    st.just(b"[" * 20_000),
    st.just(b'{"project":' * 1500),
)
STRANGE_PATHS = st.text(max_size=30).map(lambda text: "/" + quote(text.lstrip("/"), errors="replace"))
QUERIES = st.dictionaries(
    st.sampled_from(["queue", "bank", "small", "project", "confidence", "x"]),
    st.one_of(st.text(max_size=10), st.sampled_from(["0.5", "nan", "-inf", "1e999", "2"])),
    max_size=2,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from(["text/html", "*/*", "application/json;q=x", ""]),
        "Authorization": st.sampled_from(["Basic", "Basic !!!", "Basic OnB4", "Bearer x", "Basic " + "A" * 3000]),
        SECRET_HEADER: st.sampled_from(["", "x", "é".encode().decode("latin-1")]),
        "Origin": st.sampled_from([*["http://localhost"] * 5, "http://evil", "null", "http://[::"]),  # others end early
        "Content-Encoding": st.just("gzip"),
        "X-Forwarded-For": st.just("1.2.3.4, x"),
        "If-None-Match": st.sampled_from(['"', "*", 'W/"x"']),
        "Host": st.sampled_from(["studio", "a:99999", "[::1]:1", "x y"]),
    },
)
KINDS = st.sampled_from(["application/json", "application/json", "text/plain", "multipart/form-data", "x/y; charset=z"])


@pytest.fixture(params=["open", "locked"])
def app(request: pytest.FixtureRequest, tmp_path, private_redis: str, monkeypatch) -> Iterator[Flask]:
    """The application with a project in full swing; with basic auth, requests carry the right password or not."""
    monkeypatch.setattr(predict, "WAIT_S", 0.05)
    locked = {"basic_auth_user": "me", "basic_auth_pass": "pass"} if request.param == "locked" else {}
    app = create_app(Settings(data_dir=tmp_path, redis_url=private_redis, **locked))
    store = app.extensions["pt4al"].store
    fill(store, connect_project(store), tmp_path)
    export(store, tmp_path)
    Queueing(private_redis).connection.flushall()
    yield app
    store.close()
    app.extensions["pt4al"].queueing.connection.close()


def export(store: Store, data_dir: Path) -> None:
    """Have the first round's model there for download."""
    key = store.projects.find(3).id
    files = Files.of(data_dir, key)
    for path in (files.onnx(0), files.safetensors(0)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    store.of(key).rounds.set(0, exported=True)


def routes(app: Flask) -> list[str]:
    """Every path that the application answers, its place holders filled."""
    found = []
    for rule in app.url_map.iter_rules():
        names = sorted(rule.arguments)
        for values in itertools.product(*(HOLDERS[name] for name in names)):
            built = rule.build(dict(zip(names, values, strict=True)), append_unknown=False)
            assert built is not None, rule.rule
            found.append(built[1])
    return sorted(set(found))


def test_no_route_is_left_out_and_each_has_something_to_answer(app: Flask) -> None:
    paths = routes(app)
    assert {"/projects/3/final", "/api/projects/3/final", "/api/projects/3/losses.csv", "/setup"} < set(paths)
    answered = {}
    for path in paths:
        with app.test_client().get(path, headers=PASSWORD) as answer:
            answered[path] = answer.status_code
    posted = {"/setup", "/predict", "/webhook", "/train", "/api/projects/3/advance", "/projects/3/retry"}
    posted |= {"/api/projects/3/history", "/projects/3/history"}
    assert {path for path, code in answered.items() if code == 405} == posted
    unfit = {f"/api/projects/3/{of}.{form}" for of in HOLDERS["of"] for form in FORMATS}  # for choices
    unfit |= {"/projects/3/views/0.jpg", *(f"/projects/3/masks/{whose}/0.png" for whose in HOLDERS["whose"])}
    missing = {path for path, code in answered.items() if code not in (200, 405)}
    assert missing == {"/static/live.js", "/is_training", *unfit}


def fuzz(client: FlaskClient, requests: int, headers: dict[str, str]) -> Counter[int]:
    codes: Counter[int] = Counter()
    paths = st.one_of(st.sampled_from(routes(client.application)), STRANGE_PATHS)

    @settings(
        max_examples=requests, deadline=None, database=None, derandomize=requests < 1000,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(paths, st.sampled_from(METHODS), BODIES, KINDS, QUERIES, HEADERS)
    def send(path: str, method: str, body: bytes, kind: str, query: dict[str, str], given: dict[str, str]) -> None:
        begun = time.monotonic()
        with client.open(
            path, method=method, data=body, content_type=kind, query_string=query, headers={**headers, **given}
        ) as answer:
            took = time.monotonic() - begun
            codes[answer.status_code] += 1
            assert answer.status_code < 500, f"{method} {path} {query} {given} {body[:300]!r}: {answer.text[:500]}"
            assert b"Traceback" not in answer.data
            assert "\n" not in answer.status
            assert took < HANG_S, f"{method} {path} took {took:.1f} s"

    send()
    return codes


def test_no_generated_request_brings_the_backend_down(app: Flask, figures) -> None:
    client = app.test_client()
    codes = fuzz(client, REQUESTS // 2, PASSWORD)
    assert client.get("/health").status_code == 200
    assert client.get("/projects/3", headers=PASSWORD).status_code == 200
    figures(requests=sum(codes.values()), codes={str(code): count for code, count in sorted(codes.items())})
