"""A small web server whose answers a test writes, and an image to serve."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image


def png(shade: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    body = io.BytesIO()
    Image.new("L", size, shade).save(body, "PNG")
    return body.getvalue()


class Web:
    """A real HTTP server whose answers a test writes; it notes what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[tuple[str, bytes]] = []
        self.answer: Callable[[BaseHTTPRequestHandler, int], None] = lambda handler, number: reply(handler, 200)
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                web.bodies.append((self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
                web.requests.append((self.command, self.path, dict(self.headers.items())))
                web.answer(self, len(web.requests))

            do_GET = do_POST = do_PATCH = do_DELETE = do_HEAD = do_PUT = do_CONNECT = _handle  # noqa: N815 - the base class's

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that hangs up is no news
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


def reply(
    handler: BaseHTTPRequestHandler, status: int, body: bytes | str = b"{}", kind: str = "application/json", **headers
) -> None:
    body = body.encode() if isinstance(body, str) else body
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@contextmanager
def serving() -> Iterator[Web]:
    """Run a server of its own as long as the block."""
    server = Web()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server
