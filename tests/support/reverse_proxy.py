"""A reverse proxy as operators have it: one path of a host leads to the application, the rest is somebody's."""

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length", "host"})


class ReverseProxy:
    """Passes on what is below ``prefix``; notes what was asked for outside of it."""

    def __init__(self, target: str, prefix: str, *, strips: bool, headers: Mapping[str, str], keeps_host: bool) -> None:
        place, outside = urlsplit(target), list[str]()
        self.outside = outside

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not f"{self.path}/".startswith(f"{prefix}/"):
                    outside.append(self.path)
                    self._answer(404, b"somebody else's", [("Content-Type", "text/plain")])
                    return
                given = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
                host = self.headers["Host"] if keeps_host else place.netloc
                path = (self.path.removeprefix(prefix) or "/") if strips else self.path
                connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
                try:
                    connection.request(self.command, path, body or None, {**given, **headers, "Host": host})
                    found = connection.getresponse()
                    shown = [item for item in found.getheaders() if item[0].lower() not in HOP]
                    self._answer(found.status, found.read(), shown)
                finally:
                    connection.close()

            def _answer(self, status: int, body: bytes, shown: list[tuple[str, str]]) -> None:
                self.send_response_only(status)
                for name, value in shown:
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = do_HEAD = do_PUT = _handle  # noqa: N815 - the base class's

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a browser that hangs up is no news
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{prefix}"


@contextmanager
def reverse_proxy(
    target: str, prefix: str, *, strips: bool, headers: Mapping[str, str] | None = None, keeps_host: bool = False
) -> Iterator[ReverseProxy]:
    """Run one before the server at ``target``."""
    proxy = ReverseProxy(target, prefix, strips=strips, headers=headers or {}, keeps_host=keeps_host)
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()
