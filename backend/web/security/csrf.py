"""What browsers may do here: show our pages, and press the buttons on them; other sites' pages, nothing."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import request
from werkzeug.exceptions import Forbidden

from backend.web.services import services

PRIVATE = ("localhost", "local", "internal", "home.arpa")  # domains that nobody can buy a name in

# Of Plotly, the policy blocks empty style attributes and the sheet of its street maps, which we do not draw. Browsers
# note that in the console; nothing is missing.
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
    """Refuse what the page of another site sends: the browser would add the password to it.

    Scripts, and Label Studio, say nothing of where they come from, and pass.

    Raises:
        Forbidden: it changes something, and comes from elsewhere, or from a page under a name that may not be ours.
    """
    if request.method != "POST":
        return
    own = _from_own_page()
    if own is False:
        raise Forbidden("this comes from the page of another site, which may not change anything here")
    if own and not services().settings.basic_auth_user and not _is_our_name(request.host):
        raise Forbidden(
            f"buttons do not work under the name '{request.host}', which anyone may have given to this machine: "
            f"set DASHBOARD_URL={request.scheme}://{request.host}, or BASIC_AUTH_USER and BASIC_AUTH_PASS"
        )


def check_same_origin(for_scripts: str) -> None:
    """Refuse a form that none of our own pages has sent.

    for_scripts: what those use instead.

    Raises:
        Forbidden: it comes from elsewhere, or the caller does not say.
    """
    if not _from_own_page():
        raise Forbidden(f"this button works on our own page only; scripts use {for_scripts}")


def _from_own_page() -> bool | None:
    """Tell whether one of our pages has sent this; None: the caller does not say, and so is no browser of today.

    Browsers say where a POST comes from in ``Sec-Fetch-Site`` or ``Origin``, and pages cannot forge either.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site == "same-origin"
    return None if origin is None else origin.partition("://")[2] == request.host


def _is_our_name(host: str) -> bool:
    """Tell whether a page under this name can only be ours.

    Anyone who owns a domain can have its names lead here (DNS rebinding), and browsers then take his page for ours. He
    cannot with an address, a name of the network itself, or one that the operator or Label Studio calls us by. Where a
    password is asked nothing is gained so: browsers have none for his name.
    """
    name = _name(f"//{host}")
    if not name:
        return False
    if "." not in name or name.endswith(tuple(f".{domain}" for domain in PRIVATE)) or _is_address(name):
        return True
    here = services()
    ours = [here.settings.dashboard_url, *(row.backend_url for row in here.store.projects.all())]
    return name in {_name(url) for url in ours if url}


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
