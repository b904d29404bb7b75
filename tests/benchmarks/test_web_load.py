"""The load on the web side is what Label Studio sends, and is answered as that is."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.config import SECRET_HEADER, Settings
from backend.store import Store
from backend.web.app import create_app
from benchmarks.web import Call, setup_call, steady, webhook_call

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="digit" toName="image"><Choice value="zero"/><Choice value="one"/></Choices></View>"""
PROJECT = {"id": 3, "created_at": "2023-11-14T22:13:20.123456Z", "label_config": CONFIG}  # 1700000000


@pytest.fixture
def app(tmp_path: Path, private_redis: str) -> Iterator[Any]:
    login = {"basic_auth_user": "studio", "basic_auth_pass": "secret"}
    app = create_app(Settings(data_dir=tmp_path, redis_url=private_redis, **login))
    here = app.extensions["pt4al"]
    here.queueing.connection.flushall()
    yield app
    here.store.close()
    here.queueing.connection.close()


def post(app: Any, call: Call, **more: Any) -> int:
    return int(app.test_client().post(call.path, json=call.body, headers=dict(call.headers), **more).status_code)


def test_the_setup_call_connects_the_project_and_then_changes_nothing(app: Any) -> None:
    store: Store = app.extensions["pt4al"].store
    call = setup_call(PROJECT, "http://localhost:8080", "t0ken", {"rounds": 4})
    assert post(app, call, auth=("studio", "secret")) == 200
    row = store.projects.find(3)
    assert (row.created_ts, row.server, row.extra_params) == ("1700000000", "http://localhost:8080", {"rounds": 4})
    again = store.projects.connect(
        studio_project_id=3, created_ts="1700000000", server=row.server, hostname=row.server, token="t0ken",
        backend_url=row.backend_url, label_config=CONFIG, extra_params={"rounds": 4},
    )  # fmt: skip
    assert not again[1]


def test_the_webhook_call_gets_in_by_its_secret_and_not_without(app: Any) -> None:
    store: Store = app.extensions["pt4al"].store
    post(app, setup_call(PROJECT, "http://localhost:8080", "t0ken", None), auth=("studio", "secret"))
    secret = store.projects.webhook_secret(store.projects.find(3))
    assert post(app, webhook_call(PROJECT, {"id": 1, "data": {}}, {SECRET_HEADER: secret})) == 201
    assert post(app, webhook_call(PROJECT, {"id": 1, "data": {}}, {})) == 401


@pytest.fixture
def picky() -> Iterator[str]:
    """A server that answers POST with 400, /moved with 302, and all else with 200."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(302 if self.path == "/moved" else 200)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(400)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Location", "/")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"so")

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("call", "failures", "refusal"),
    [
        (Call("/health"), 0, None),
        (Call("/moved"), 5, "302 so"),
        (Call("/setup", {"project": "3.x"}), 5, "400 so"),
    ],
)
def test_a_request_that_is_not_answered_with_success_has_failed(
    picky: str, monkeypatch: pytest.MonkeyPatch, call: Call, failures: int, refusal: str | None
) -> None:
    monkeypatch.setattr("benchmarks.web.SECONDS", 0.05)
    load = steady(picky, call)
    assert (load.requests, load.failures, load.refusal) == (5, failures, refusal)
    assert 0 < load.p50 <= load.p99


def test_a_server_that_is_not_there_has_failed_all_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.web.SECONDS", 0.02)
    load = steady("http://127.0.0.1:1", Call("/health"))
    assert load.failures == load.requests == 2
