"""CSRF and DNS-rebinding checks for browser requests, and the headers of our pages."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import request
from werkzeug.exceptions import Forbidden

from backend.web.services import services

PRIVATE = ("localhost", "local", "internal", "home.arpa")  # domains in which nobody can register a name

# The policy blocks two things of Plotly: empty style attributes, and the stylesheet of street maps, which no figure
# uses. Browsers report this in their console; it has no effect on the pages.
HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",  # Plotly paints heat maps into data URLs
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def refuse_other_sites() -> None:
    """Refuse a POST from the page of another site, to which the browser would add the password.

    Scripts and Label Studio send no origin, and pass.

    Raises:
        Forbidden: the page is of another site, or its host name may belong to somebody else.
    """
    if request.method != "POST":
        return
    own = _from_own_page()
    if own is False:
        raise Forbidden(
            "this comes from the page of another site, which may not change anything here; where it is ours behind a "
            "proxy, set DASHBOARD_URL to the address that it is opened at"
        )
    named = _is_dashboard(request.headers.get("Origin")) or _is_own_name(request.host)
    if own and not services().settings.basic_auth_user and not named:
        raise Forbidden(
            f"buttons do not work under the name '{request.host}', which anyone may have given to this machine: "
            f"set DASHBOARD_URL={request.url_root.rstrip('/')}, or BASIC_AUTH_USER and BASIC_AUTH_PASS"
        )


def check_same_origin(for_scripts: str) -> None:
    """Refuse a form that was not sent by one of our pages.

    for_scripts: the route that scripts use instead, for the message.

    Raises:
        Forbidden: the form is of another site, or the request has no origin.
    """
    if not _from_own_page():
        raise Forbidden(f"this button works on our own page only; scripts use {for_scripts}")


def _from_own_page() -> bool | None:
    """Return whether one of our pages sent the request; None if it has no origin, and so is of no current browser.

    Browsers send the origin of a POST in ``Sec-Fetch-Site`` or ``Origin``, and pages cannot forge either. A proxy may
    have passed the request on under another host than the one of the page, which DASHBOARD_URL then names.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site == "same-origin"
    if origin is None:
        return None
    return origin.partition("://")[2] == request.host or _is_dashboard(origin)


def _is_dashboard(origin: str | None) -> bool:
    """Return whether an origin is the one that the operator has named."""
    parts = urlsplit(services().settings.dashboard_url or "")
    if origin is None or not parts.hostname:
        return False
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port not in (None, {"http": 80, "https": 443}.get(parts.scheme)) else ""
    return origin == f"{parts.scheme}://{host}{port}"


def _is_own_name(host: str) -> bool:
    """Return whether a page under this host name can only be ours.

    Attack (DNS rebinding): the owner of a domain points one of its names at this machine, and the browser treats the
    attacker's page as ours. Defence: accept IP addresses, names of the local network, and names that the operator has
    configured or that Label Studio uses. The check is skipped where a password is required, because the browser has no
    password for the attacker's name.
    """
    name = _name(f"//{host}")
    if not name:
        return False
    if "." not in name or name.endswith(tuple(f".{domain}" for domain in PRIVATE)) or _is_address(name):
        return True
    current = services()
    urls = [current.settings.dashboard_url, *(row.backend_url for row in current.store.projects.all())]
    return name in {_name(url) for url in urls if url}


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
