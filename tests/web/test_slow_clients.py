"""The web server as it runs, against clients that are slow on purpose."""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
from support.e2e_harness import wait_for
from support.labelstudio import free_port

from backend.dashboard.assets import plotly_version
from backend.server import gunicorn, gunicorn_worker
from backend.server.request_buffer import HEAD_BYTES, KEPT_BYTES, Intake, Progress
from backend.web.security import response_limits

MANY = 3 * gunicorn.WORKERS * gunicorn.THREADS
HALF_HEAD = b"GET /health HTTP/1.1\r\nX-a: "
BODY = json.dumps({"action": "ANNOTATION_CREATED", "project": {"id": 3}}).encode()
HEAD = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
CHUNKED = HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
QUICK = """
import sys
from backend.server import gunicorn_worker
from backend.server.gunicorn import WebServer
gunicorn_worker.REQUEST_S = gunicorn_worker.LARGE_S = gunicorn_worker.LARGE_WAIT_S = 2.0
gunicorn_worker.SEND_BUFFER = 64 * 1024
WebServer("127.0.0.1", int(sys.argv[1])).run()
"""


def health(port: int, timeout_s: float = 20) -> float:
    """Ask for the health; return the seconds that it took."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    return time.monotonic() - begun


def is_up(port: int) -> bool:
    try:
        return health(port) > 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server whose deadlines are two seconds."""
    folder, port = tmp_path_factory.mktemp("web"), free_port()
    env = {**os.environ, "DATA_DIR": str(folder), "REDIS_URL": f"unix://{folder}/none.sock"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", QUICK, str(port)], env=env, stdout=log, stderr=log)
    try:
        wait_for("the server", lambda: is_up(port), 60)
        yield port
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture
def slow(port: int) -> Iterator[ExitStack]:
    with ExitStack() as sockets:
        yield sockets


def connect(sockets: ExitStack, port: int, first: bytes) -> socket.socket:
    client = sockets.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
    client.sendall(first)
    return client


def is_closed(client: socket.socket) -> bool:
    client.settimeout(0.01)
    try:
        return client.recv(1000) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "first", [b"", HALF_HEAD, HEAD % 1000 + b"{", HEAD % 10_000_000 + b"{", CHUNKED],
    ids=["nothing", "half a head", "a byte of a body", "a byte of a large body", "no chunk"],
)  # fmt: skip
def test_clients_that_send_no_more_hold_nobody_up_and_are_closed(port: int, slow: ExitStack, first: bytes) -> None:
    clients = [connect(slow, port, first) for _ in range(MANY)]
    assert max(health(port) for _ in range(20)) < 1.0
    wait_for("the end of the slow ones", lambda: all(is_closed(client) for client in clients), 20)


def test_a_client_that_trickles_a_head_is_closed_at_the_deadline(port: int, slow: ExitStack) -> None:
    client = connect(slow, port, HALF_HEAD)
    begun = time.monotonic()
    while not is_closed(client) and time.monotonic() - begun < 15:
        time.sleep(0.1)
        try:
            client.sendall(b"x")
        except ConnectionError:
            break
    assert 1.5 < time.monotonic() - begun < 8


def test_a_client_that_keeps_the_connection_after_the_answer_holds_nobody_up(port: int, slow: ExitStack) -> None:
    for _ in range(MANY):
        connect(slow, port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert max(health(port) for _ in range(20)) < 1.0


def test_clients_that_do_not_take_large_answers_hold_nobody_up(port: int, slow: ExitStack) -> None:
    path = f"/dashboard/plotly-{plotly_version()}.js"
    for _ in range(20):  # each process compresses it once
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            assert len(answer.read()) > 2 * response_limits.LARGE
    answers = [connect(slow, port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).recv for _ in range(MANY)]
    assert max(health(port) for _ in range(20)) < 1.0
    codes = {answer(12) for answer in answers}
    assert codes == {b"HTTP/1.1 200", b"HTTP/1.1 503"}


def test_more_connections_than_are_kept_cost_the_oldest(port: int, slow: ExitStack) -> None:
    many = 2 * gunicorn_worker.PENDING + 100
    clients = [connect(slow, port, HALF_HEAD) for _ in range(many)]
    assert max(health(port) for _ in range(5)) < 1.0
    assert sum(is_closed(client) for client in clients) >= 50


@pytest.mark.parametrize("size", [len(BODY), KEPT_BYTES + 1, 5_000_000])
def test_a_body_in_pieces_arrives_whole(port: int, slow: ExitStack, size: int) -> None:
    whole = HEAD % size + BODY + b" " * (size - len(BODY))
    cuts = sorted({0, len(whole), *random.Random(size).sample(range(1, 2000 if size > 2000 else len(whole)), 6)})
    client = connect(slow, port, b"")
    for begin, end in pairwise(cuts):
        client.sendall(whole[begin:end])
        time.sleep(0.02)
    assert client.recv(1000).startswith(b"HTTP/1.1 201")


def test_large_bodies_wait_for_their_turn(port: int, slow: ExitStack) -> None:
    many = 2 * gunicorn.WORKERS * gunicorn_worker.LARGE + 1
    clients = [connect(slow, port, HEAD % 1_000_000) for _ in range(many)]
    for client in clients:
        client.sendall(BODY + b" " * (1_000_000 - len(BODY)))
    assert [client.recv(1000)[:12] for client in clients] == [b"HTTP/1.1 201"] * many


def test_a_connection_carries_one_request_after_another(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("POST", "/webhook", BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.read() != b"") == (201, True)
        assert connection.sock is first
    connection.request("POST", "/webhook", iter([BODY]), {"Content-Type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 201
    connection.close()


def test_requests_that_come_together_are_answered_one_by_one(port: int, slow: ExitStack) -> None:
    client = connect(slow, port, 2 * (HEAD % len(BODY) + BODY) + b"GET /health HTTP/1.1\r\nHost: x\r\nConnec")
    time.sleep(0.3)
    client.sendall(b"tion: close\r\n\r\n")
    said = b""
    while data := client.recv(10_000):
        said += data
    assert (said.count(b"HTTP/1.1 201"), said.count(b"HTTP/1.1 200")) == (2, 1)


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(port: int, slow: ExitStack) -> None:
    head = HEAD % len(BODY)
    client = connect(slow, port, head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert client.recv(1000).startswith(b"HTTP/1.1 100")
    client.sendall(BODY)
    assert client.recv(1000).startswith(b"HTTP/1.1 201")


def test_a_head_without_an_end_is_refused(port: int, slow: ExitStack) -> None:
    client = connect(slow, port, b"GET / HTTP/1.1\r\n" + b"X: %s\r\n" % (b"x" * 1000) * (HEAD_BYTES // 1000 + 1))
    assert client.recv(1000).startswith(b"HTTP/1.1 431")


def test_an_intake_knows_when_a_request_is_complete() -> None:
    whole = HEAD % 4 + b"abcd"
    intake = Intake()
    steps = [intake.add(whole[i : i + 1]) for i in range(len(whole))]
    assert steps == [Progress.PART] * (len(whole) - 1) + [Progress.COMPLETE]
    assert intake.received == whole
    assert Intake().add(b"GET / HTTP/1.1\r\n\r\n") == Progress.COMPLETE
    assert Intake().add(HEAD % (KEPT_BYTES + 1)) == Progress.LARGE
    assert Intake().add(b"POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\n\r\n") == Progress.LARGE
    assert Intake().add(b"x" * (HEAD_BYTES + 1)) == Progress.REFUSED
