"""A process between the backend and a real Label Studio that behaves as badly as it is told.

It is a process of its own (``python proxy.py PORT TARGET``) so that its faults take no time from the test. How it
behaves is set through ``/__proxy__``: a mode, and to which share of the requests and which paths it applies.
"""

import http.client
import json
import random
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONTROL = "/__proxy__"
HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length", "host"})
MODES = ("pass", "slow", "500", "429", "502", "html", "drop", "drop-answer", "hang", "401", "ten-times", "reverse")
HELD = 5  # requests that are held back until they go out in reverse order


class State:
    """How the proxy behaves, and what it has seen."""

    def __init__(self) -> None:
        self.mode, self.share, self.only, self.seconds = "pass", 1.0, "", 3.0
        self.requests = self.faults = 0
        self.chance = random.Random(0)
        self.held: list[tuple[str, str, dict[str, str], bytes]] = []

    def fault(self, path: str) -> str:
        """Choose what happens to a request."""
        self.requests += 1
        if self.mode == "pass" or self.only not in path or self.chance.random() >= self.share:
            return "pass"
        self.faults += 1
        return self.mode


def handler_class(target: str, state: State) -> type[BaseHTTPRequestHandler]:
    place = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == CONTROL:
                self.control(json.loads(body or b"{}"))
                return
            fault = state.fault(self.path)
            if fault == "slow":
                time.sleep(state.seconds)
            if fault == "hang":
                time.sleep(600)
            if fault == "drop":
                self.close_connection = True
            elif fault == "html":
                self.answer(200, b"<html><title>Maintenance</title></html>", [("Content-Type", "text/html")])
            elif fault in ("500", "429", "502", "401"):
                self.answer(int(fault), b'{"detail": "a fault"}', [("Content-Type", "application/json")])
            elif fault == "ten-times":
                for _ in range(9):
                    self.send(self.command, self.path, dict(self.headers.items()), body)
                self.forward(body, drop=False)
            elif fault == "reverse":
                self.answer(201, b"{}", [("Content-Type", "application/json")])
                self.hold(body)
            else:
                self.forward(body, drop=fault == "drop-answer")

        def hold(self, body: bytes) -> None:
            """Keep a request; when there are enough, send them, the last one first."""
            state.held.append((self.command, self.path, dict(self.headers.items()), body))
            if len(state.held) >= HELD:
                held, state.held = state.held, []
                for one in reversed(held):
                    self.send(*one)

        def send(
            self, method: str, path: str, given: dict[str, str], body: bytes
        ) -> tuple[http.client.HTTPResponse, bytes]:
            headers = {name: value for name, value in given.items() if name.lower() not in HOP}
            connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)
            try:
                connection.request(method, path, body or None, {**headers, "Host": place.netloc})
                found = connection.getresponse()
                return found, found.read()
            finally:
                connection.close()

        def forward(self, body: bytes, drop: bool) -> None:
            """Pass the request on; dropping the answer is what a restart in the middle of a write looks like."""
            try:
                found, answer = self.send(self.command, self.path, dict(self.headers.items()), body)
            except OSError:
                self.close_connection = True  # as if nobody listened here
                return
            if drop:
                self.close_connection = True
                return
            self.answer(found.status, answer, [item for item in found.getheaders() if item[0].lower() not in HOP])

        def answer(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def control(self, wanted: dict[str, Any]) -> None:
            for name, value in wanted.items():
                setattr(state, name, value)
            known = {"mode": state.mode, "requests": state.requests, "faults": state.faults}
            self.answer(200, json.dumps(known).encode(), [("Content-Type", "application/json")])

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do_HEAD = do_OPTIONS = handle_any  # noqa: N815 - the base class's

        def log_message(self, *args: object) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as come."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no news."""


class Proxy:
    """The test's handle on a proxy process."""

    def __init__(self, port: int, target: str) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen([sys.executable, str(Path(__file__)), str(port), target])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                self.set(mode="pass")
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the proxy did not start")

    def set(self, **wanted: object) -> dict[str, Any]:
        """Change how it behaves: ``mode``, ``share``, ``only`` (a part of the path), ``seconds``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", CONTROL, json.dumps(wanted))
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
        finally:
            connection.close()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), handler_class(sys.argv[2], State())).serve_forever()
