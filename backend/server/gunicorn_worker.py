"""A gunicorn worker that gives a thread only to complete requests, so that slow clients hold no threads.

gunicorn's own gthread worker gives a thread to a connection at its first byte and then waits for the rest without a
limit: as many sockets with half a header as there are threads stop the server. Here the event loop buffers the request
and closes connections that take too long. Only large bodies are read by a thread: few at once, with a deadline.
waitress buffers requests as well, but was measured to be no replacement: see docs/architecture.md.
"""

import socket
import sys
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

from backend.server.request_buffer import Intake, Progress

REQUEST_S = 20.0  # from connecting, or the first byte of a later request, to its last byte
UNEXPECTED_S = 1.0  # for bytes that gunicorn's parser expects beyond those that were buffered
LARGE = 2  # large bodies that a process reads at a time
LARGE_WAIT_S = 30.0  # until a large body's turn
LARGE_S = 60.0  # from its turn to its last byte
STALL_S = 60.0  # for a client to receive a piece of an answer
STOPPING_S = 2.0  # for the next request of a connection while the process stops
CLOSING_S = 2.0  # between the end of an answer and closing the connection, so that the client can read it
PENDING = 256  # connections of a process with an incomplete request; for one more, the oldest is closed
SEND_BUFFER = 1024 * 1024  # bytes that the kernel buffers for a slow client (at most net.core.wmem_max)
RECEIVED_AT_ONCE = 64 * 1024
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(TConn):
    """A client's connection, with the received bytes of its next request."""

    def __init__(self, *args: Any) -> None:
        """Take gunicorn's arguments."""
        super().__init__(*args)
        self.intake = Intake()
        self.deadline = time.monotonic() + REQUEST_S
        self.idle = False  # between two requests
        self.closing = False  # after the last
        self.large = False
        self.data_ready = True  # tells gunicorn that a thread need not wait for data

    def init(self) -> None:
        """Pass the received bytes to gunicorn's parser; called in a thread before each request."""
        if not self.initialized:
            super().init()
            self.unreader = _Unreader(self.sock)
            self.parser.unreader = self.unreader  # type: ignore[union-attr]
        self.unreader.deadline = time.monotonic() + (LARGE_S if self.large else UNEXPECTED_S)
        self.unreader.unread(bytes(self.intake.received))
        self.intake = Intake()
        self.sock.settimeout(STALL_S)


class _Unreader(SocketUnreader):
    """Reads until a deadline, even if single bytes keep arriving."""

    deadline = 0.0

    def chunk(self, size_hint: int | None = None) -> bytes:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request was sent too slowly")
        self.sock.settimeout(left)
        try:
            return super().chunk(size_hint)  # type: ignore[call-arg]
        finally:
            self.sock.settimeout(STALL_S)


class Worker(ThreadWorker):
    """A process that answers HTTP. All methods but ``handle`` and its callees run in the event loop's thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Start without connections."""
        super().__init__(*args, **kwargs)
        self._pending: dict[Connection, None] = {}  # oldest first
        self._queue: deque[Connection] = deque()  # of large requests
        self._reading = 0

    def accept(self, listener: socket.socket) -> None:
        """Accept a new connection; if too many are incomplete, close the oldest of them."""
        try:
            client, address = listener.accept()
        except OSError:  # the client left, another process accepted it, or no file descriptor is free
            self._make_room(PENDING // 2)
            return
        with suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.nr_conns += 1
        self._make_room(PENDING)
        self._watch(Connection(self.cfg, client, address, listener.getsockname()))

    def finish_request(self, conn: Connection, fs: Future[bool]) -> None:  # type: ignore[override]
        """Watch the connection for its next request, or for its end."""
        if conn.large:
            self._reading -= 1
            conn.large = False
            self._start_large()
        try:
            kept = not fs.cancelled() and bool(fs.result())
            conn.sock.setblocking(False)
            if not kept:
                conn.sock.shutdown(socket.SHUT_WR)
        except Exception:  # noqa: BLE001 - after any error the connection is unusable
            self._drop(conn)
            return
        conn.closing, conn.idle = not kept, kept
        next_s = self.cfg.keepalive if self.alive else STOPPING_S
        conn.deadline = time.monotonic() + (next_s if kept else CLOSING_S)
        self._watch(conn)
        read_ahead = conn.unreader.take_buffered() if kept else b""
        if read_ahead:
            self._receive(conn, read_ahead)

    def murder_pending(self) -> None:
        """Close the connections whose deadline has passed."""
        now = time.monotonic()
        for conn in [conn for conn in self._pending if conn.deadline < now]:
            self._drop(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close all connections when gunicorn stops."""
        for conn in list(self._pending) if force else []:
            self._drop(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        for conn in self._pending:
            if conn.idle:
                conn.deadline = min(conn.deadline, deadline)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        # The connection is closed instead of waiting for the rest of a large body that was not read.
        return not conn.large and bool(super()._keepalive_after(conn, keepalive))  # type: ignore[misc]

    def _watch(self, conn: Connection) -> None:
        self._pending[conn] = None
        self.poller.register(conn.sock, EVENT_READ, partial(self._on_bytes, conn))

    def _on_bytes(self, conn: Connection, sock: socket.socket) -> None:
        if conn not in self._pending:  # closed a moment ago to make room
            return
        try:
            data = sock.recv(RECEIVED_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
        elif not conn.closing:
            self._receive(conn, data)

    def _receive(self, conn: Connection, data: bytes) -> None:
        if conn.idle:
            conn.idle, conn.deadline = False, time.monotonic() + REQUEST_S
        progress = conn.intake.add(data)
        if progress == Progress.COMPLETE:
            self._release(conn)
            self.enqueue_req(conn)
        elif progress == Progress.LARGE:
            self.poller.unregister(conn.sock)
            conn.deadline = time.monotonic() + LARGE_WAIT_S
            self._queue.append(conn)
            self._start_large()
        elif progress == Progress.REFUSED:
            with suppress(OSError):
                conn.sock.send(TOO_LONG)
                conn.sock.shutdown(socket.SHUT_WR)
            conn.closing, conn.deadline = True, time.monotonic() + CLOSING_S

    def _start_large(self) -> None:
        """Start the next large requests while fewer than ``LARGE`` are read."""
        while self._queue and self._reading < LARGE:
            conn = self._queue.popleft()
            if conn in self._pending:
                self._release(conn)
                self._reading += 1
                conn.large = True
                self.enqueue_req(conn)

    def _make_room(self, limit: int) -> None:
        while len(self._pending) >= limit:
            self._drop(next(iter(self._pending)))

    def _release(self, conn: Connection) -> None:
        """Stop watching the connection; a thread takes it over, or it is closed."""
        self._pending.pop(conn, None)
        with suppress(KeyError, ValueError, OSError):  # a large request that waits for its turn is not registered
            self.poller.unregister(conn.sock)

    def _drop(self, conn: Connection) -> None:
        self._release(conn)
        self.nr_conns -= 1
        conn.close()


def is_slow_client() -> bool:
    """Return whether the exception that is being handled means a client that was too slow."""
    return isinstance(sys.exc_info()[1], TimeoutError)
