"""Behind a reverse proxy: the path that people see before ours, such as ``/pt4al`` of ``https://host/pt4al/``.

The path comes from DASHBOARD_URL, or from ``X-Forwarded-Prefix`` of a proxy in TRUSTED_PROXIES. The proxy may take it
off the addresses that it passes on or leave it: both are understood, and so are requests that come without the proxy,
as Label Studio's often do. What we link to begins with it always.

Another host than the request's own is never taken from a header: checks against forged names look at that.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, request

from backend.addresses import Network

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# Of which links are made, so that it must not lead to another host.
PREFIX = re.compile(r"(?:/[A-Za-z0-9_~@-][A-Za-z0-9_~@.-]*)+")
SEEN = "pt4al.prefix_seen"  # whether the caller used the prefix, as far as we can tell


class ReverseProxy:
    """Moves the prefix from the path, where it stands there, to where links are made from."""

    def __init__(self, app: Flask, dashboard_url: str | None, trusted: Sequence[Network]) -> None:
        """Wrap ``app``, which has all its routes."""
        parts = urlsplit(dashboard_url or "")
        self._inner: WSGIApplication = app.wsgi_app
        self._routes = app.url_map.bind("localhost")
        self._prefix, self._host, self._trusted = prefix_of(parts.path), parts.netloc.lower(), tuple(trusted)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        trusted = self._is_trusted(environ.get("REMOTE_ADDR", ""))
        if trusted and (scheme := _last(environ.get("HTTP_X_FORWARDED_PROTO"))) in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        forwarded = prefix_of(_last(environ.get("HTTP_X_FORWARDED_PREFIX"))) if trusted else ""
        prefix, path = forwarded or self._prefix, environ.get("PATH_INFO", "")
        inside = f"{path}/".startswith(f"{prefix}/") and not self._is_route(path)
        if prefix:
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "").rstrip("/") + prefix
            environ["PATH_INFO"] = (path.removeprefix(prefix) if inside else path) or "/"
            environ[SEEN] = bool(forwarded) or inside or environ.get("HTTP_HOST", "").lower() == self._host
        return self._inner(environ, start_response)

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._trusted)

    def _is_route(self, path: str) -> bool:
        """Tell whether a path is ours as it is: a prefix may be called as one of our routes is (``/dashboard``)."""
        return bool(self._routes.allowed_methods(path))


def called_by() -> str:
    """Return the address that the caller has used for this backend, without a slash at its end.

    Label Studio calls us by what was typed there, which has the prefix only where that leads through the proxy.
    """
    root = request.script_root if request.environ.get(SEEN, True) else ""
    return f"{request.scheme}://{request.host}{root}"


def prefix_of(path: str) -> str:
    """Return a path that links may begin with, without a slash at its end; empty where it is none."""
    prefix = path.rstrip("/")
    return prefix if PREFIX.fullmatch(prefix) else ""


def _last(header: str | None) -> str:
    """Return the value of the proxy next to us, which comes last."""
    return (header or "").rpartition(",")[2].strip()
