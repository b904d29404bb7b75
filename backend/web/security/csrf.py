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
        raise Forbidden("this comes from the page of another site, which may not change anything here")
    if own and not services().settings.basic_auth_user and not _is_own_name(request.host):
        raise Forbidden(
            f"buttons do not work under the name '{request.host}', which anyone may have given to this machine: "
            f"set DASHBOARD_URL={request.scheme}://{request.host}, or BASIC_AUTH_USER and BASIC_AUTH_PASS"
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

    Browsers send the origin of a POST in ``Sec-Fetch-Site`` or ``Origin``, and pages cannot forge either.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site == "same-origin"
    return None if origin is None else origin.partition("://")[2] == request.host


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
