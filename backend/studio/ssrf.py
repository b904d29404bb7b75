"""Connections that are made to allowed addresses only.

Whoever can import tasks into a project names the addresses that this backend then calls. So a name is resolved once,
the address that comes out is checked, and that very address is connected to: neither a redirect nor a name that
resolves to something else the next time leads anywhere else.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError
from urllib3.response import HTTPResponse

from backend.addresses import Address, AllowedAddresses, literal_address
from backend.studio.urls import PORTS, Origin, origin_of

# Until a server's answer has to have begun, however slowly it comes: timeouts count from byte to byte only.
HEAD_S = 60.0


class OriginAdapter(HTTPAdapter):
    """Connects to one server and to no other: what has to hold whatever was thought of an address before."""

    def __init__(self, origin: Origin, **options: Any) -> None:
        """Take the server and the options of ``HTTPAdapter``."""
        self._origin = origin
        super().__init__(**options)

    def send(self, request: PreparedRequest, *given: Any, **options: Any) -> Response:
        """Send a request to the server; raises InvalidURL for any other."""
        # The very values that the connection is then looked up or made by.
        found, _ = self.build_connection_pool_key_attributes(request, True)
        connected = Origin(found["scheme"], found["host"] or "", found["port"] or PORTS.get(found["scheme"]))
        if not connected == origin_of(request.url or "") == self._origin:
            raise InvalidURL("not the server that this session is for", request=request)
        return super().send(request, *given, **options)


class GuardedAdapter(HTTPAdapter):
    """Connects to nothing but what ``allowed`` allows.

    Through a proxy of the operator's, names are the proxy's to resolve; addresses written as such are still checked.
    """

    def __init__(self, allowed: AllowedAddresses, **options: Any) -> None:
        """Take the policy and the options of ``HTTPAdapter``."""
        self._allowed = allowed
        super().__init__(**options)

    def init_poolmanager(self, *given: Any, **options: Any) -> None:
        """Make the pools of connections that check."""
        super().init_poolmanager(*given, **options)
        self.poolmanager.pool_classes_by_scheme = _guarded_pools(self._allowed)

    def send(self, request: PreparedRequest, *given: Any, **options: Any) -> Response:
        """Send a request whose host, if it is an address, is allowed."""
        host = origin_of(request.url or "").host
        literal = literal_address(host)
        if literal is not None:
            self._allowed.check(host, literal)
        return super().send(request, *given, **options)


def _guarded_pools(allowed: AllowedAddresses) -> dict[str, type[HTTPConnectionPool]]:
    """Make the connection classes of one policy: urllib3 gives no other way to hand it to them."""

    class Guarded(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allowed, super()._new_conn)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3's own stubs have it
            with ends_after(HEAD_S, partial(_shut_down, self.sock)):
                return super().getresponse()

    class GuardedTLS(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, allowed, super()._new_conn)

        def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3's own stubs have it
            with ends_after(HEAD_S, partial(_shut_down, self.sock)):
                return super().getresponse()

    class Pool(HTTPConnectionPool):
        ConnectionCls = Guarded

    class PoolTLS(HTTPSConnectionPool):
        ConnectionCls = GuardedTLS

    return {"http": Pool, "https": PoolTLS}


def _connect(
    connection: HTTPConnection, allowed: AllowedAddresses, connect: Callable[[], socket.socket]
) -> socket.socket:
    """Resolve, check, and connect to what was checked; certificate and Host header stay those of the name."""
    host, name = connection.host, connection._dns_host
    try:
        addresses = _resolve(name, connection.port)
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error
    permitted = [address for address in addresses if allowed.allows(host, address)]
    if not permitted:
        allowed.check(host, addresses[0])
    last: HTTPError | None = None
    for address in permitted:
        connection._dns_host = str(address)
        try:
            return connect()
        except HTTPError as error:  # the name's next address may answer
            last = error
        finally:
            connection._dns_host = name
    raise last or NameResolutionError(host, connection, socket.gaierror("no address"))


@contextmanager
def ends_after(seconds: float, shut_down: Callable[[], None]) -> Iterator[None]:
    """Shut a connection down if the block takes longer, so that what reads from it there ends with an error."""
    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(sock: socket.socket | None) -> None:
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _resolve(host: str, port: int | None) -> Sequence[Address]:
    found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not addresses:
        raise socket.gaierror("no address")
    return addresses
