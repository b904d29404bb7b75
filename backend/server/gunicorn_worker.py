"""gunicorn's threads, lent to whole requests only: a client that sends its bytes slowly holds none of them.

gunicorn's own gthread worker gives a thread to a connection as soon as its first byte has come, and waits for the
others without an end: as many sockets with half a header as there are threads stop it. Here the event loop gathers a
request and closes what takes too long. Only a large body is read by a thread, by few at once, and within a time.
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

REQUEST_S = 20.0  # from the first byte of a request, or the connection, to its last
UNEXPECTED_S = 1.0  # for bytes that gunicorn's parser wants and we have not
LARGE = 2  # bodies of a process that threads read at a time
LARGE_WAIT_S = 30.0  # for their turn
LARGE_S = 60.0  # from the turn to the last byte
STALL_S = 60.0  # for a client to take a piece of an answer
STOPPING_S = 2.0  # for the next request of a connection while this process stops
CLOSING_S = 2.0  # between the end of our answer and ours of the connection, so that the client can read it
PENDING = 256  # connections of a process whose request is not whole; one more, and the oldest is closed
SEND_BUFFER = 1024 * 1024  # bytes of an answer that the kernel keeps for a slow client (as far as net.core.wmem_max)
RECEIVED_AT_ONCE = 64 * 1024
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(TConn):
    """A client, and what it has sent of its next request."""

    def __init__(self, *args: Any) -> None:
        """Take what gunicorn gives to its own."""
        super().__init__(*args)
        self.intake = Intake()
        self.deadline = time.monotonic() + REQUEST_S
        self.idle = False  # between two requests
        self.closing = False  # after the last
        self.large = False
        self.data_ready = True  # for gunicorn: a thread has not to wait for it

    def init(self) -> None:
        """Have gunicorn's parser read what has come; called in a thread before each request."""
        if not self.initialized:
            super().init()
            self.unreader = _Unreader(self.sock)
            self.parser.unreader = self.unreader  # type: ignore[union-attr]
        self.unreader.deadline = time.monotonic() + (LARGE_S if self.large else UNEXPECTED_S)
        self.unreader.unread(bytes(self.intake.received))
        self.intake = Intake()
        self.sock.settimeout(STALL_S)


class _Unreader(SocketUnreader):
    """Reads on until a deadline, however steadily the bytes may trickle."""

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
    """A process that answers HTTP. All but ``handle`` and what it calls runs in the thread of the event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without connections."""
        super().__init__(*args, **kwargs)
        self._pending: dict[Connection, None] = {}  # oldest first
        self._queue: deque[Connection] = deque()  # of large requests
        self._reading = 0

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection in, at the cost of the one that has kept us waiting longest."""
        try:
            client, address = listener.accept()
        except OSError:  # it is gone, another process has it, or there are no file descriptors left
            self._make_room(PENDING // 2)
            return
        with suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.nr_conns += 1
        self._make_room(PENDING)
        self._watch(Connection(self.cfg, client, address, listener.getsockname()))

    def finish_request(self, conn: Connection, fs: Future[bool]) -> None:  # type: ignore[override]
        """Wait for the connection's next request, or for its end."""
        if conn.large:
            self._reading -= 1
            conn.large = False
            self._start_large()
        try:
            kept = not fs.cancelled() and bool(fs.result())
            conn.sock.setblocking(False)
            if not kept:
                conn.sock.shutdown(socket.SHUT_WR)
        except Exception:  # noqa: BLE001 - whatever it was, this connection is over
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
        """Close what has taken too long."""
        now = time.monotonic()
        for conn in [conn for conn in self._pending if conn.deadline < now]:
            self._drop(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close everything, when gunicorn stops."""
        for conn in list(self._pending) if force else []:
            self._drop(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        for conn in self._pending:
            if conn.idle:
                conn.deadline = min(conn.deadline, deadline)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        # What is left of a large body is not waited for.
        return not conn.large and bool(super()._keepalive_after(conn, keepalive))  # type: ignore[misc]

    def _watch(self, conn: Connection) -> None:
        self._pending[conn] = None
        self.poller.register(conn.sock, EVENT_READ, partial(self._on_bytes, conn))

    def _on_bytes(self, conn: Connection, sock: socket.socket) -> None:
        if conn not in self._pending:  # closed a moment ago, in favour of another
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
        if progress == Progress.WHOLE:
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
        """Give threads to the large requests whose turn it is."""
        while self._queue and self._reading < LARGE:
            conn = self._queue.popleft()
            if conn in self._pending:
                self._release(conn)
                self._reading += 1
                conn.large = True
                self.enqueue_req(conn)

    def _make_room(self, most: int) -> None:
        while len(self._pending) >= most:
            self._drop(next(iter(self._pending)))

    def _release(self, conn: Connection) -> None:
        """Leave it to a thread."""
        self._pending.pop(conn, None)
        with suppress(KeyError, ValueError, OSError):  # it may wait for its turn, unregistered
            self.poller.unregister(conn.sock)

    def _drop(self, conn: Connection) -> None:
        self._release(conn)
        self.nr_conns -= 1
        conn.close()


def is_slow_client() -> bool:
    """Tell whether what is being handled is that a client was too slow."""
    return isinstance(sys.exc_info()[1], TimeoutError)
