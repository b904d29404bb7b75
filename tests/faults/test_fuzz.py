"""Every route with generated requests: no failure of ours, no traceback, no hang.

FAULTS_REQUESTS says how many; `make faults` sends 10,000.
"""

import base64
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web_pages import CONFIG, connect_project, fill

from backend.config import SECRET_HEADER, Settings
from backend.queueing import Queueing
from backend.web import predict
from backend.web.app import create_app

REQUESTS = int(os.environ.get("FAULTS_REQUESTS") or 400)
HANG_S = 5.0
ROUTES = (
    "/", "/health", "/setup", "/predict", "/webhook", "/train", "/versions", "/metrics", "/is_training",
    "/api/projects", "/api/projects/3", "/api/projects/3/broken", "/api/projects/3/advance",
    "/projects", "/projects/3", "/projects/3/retry", "/projects/3/images/0.png", "/projects/3/figures/curve.json",
    "/dashboard/static/live.js",
)  # fmt: skip
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
}
BODIES = st.one_of(
    st.fixed_dictionaries({}, optional=FIELDS).map(lambda body: json.dumps(body).encode()),
    st.fixed_dictionaries({}, optional=FIELDS).map(lambda body: json.dumps(body).encode()),
    VALUES.map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=200),
    st.just(b"[" * 20_000),
    st.just(b'{"project":' * 1500),
)
SEGMENTS = st.one_of(
    st.sampled_from(ROUTES), st.text(max_size=30).map(lambda text: "/" + quote(text.lstrip("/"), errors="replace"))
)
QUERIES = st.dictionaries(st.sampled_from(["queue", "bank", "small", "project", "x"]), st.text(max_size=10), max_size=2)
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
    Queueing(private_redis).connection.flushall()
    yield app
    store.close()
    app.extensions["pt4al"].queueing.connection.close()


def fuzz(client: FlaskClient, requests: int, headers: dict[str, str]) -> Counter[int]:
    codes: Counter[int] = Counter()

    @settings(
        max_examples=requests, deadline=None, database=None, derandomize=requests < 1000,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(SEGMENTS, st.sampled_from(METHODS), BODIES, KINDS, QUERIES, HEADERS)
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
    password = {"Authorization": "Basic " + base64.b64encode(b"me:pass").decode()}
    codes = fuzz(client, REQUESTS // 2, password)
    assert client.get("/health").status_code == 200
    assert client.get("/projects/3", headers=password).status_code == 200
    figures(requests=sum(codes.values()), codes={str(code): count for code, count in sorted(codes.items())})
