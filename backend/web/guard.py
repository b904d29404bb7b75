"""What browsers may do here: show our pages, and press the buttons on them; other sites' pages, nothing."""

from flask import request
from werkzeug.exceptions import Forbidden

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
        Forbidden: it changes something, and comes from elsewhere.
    """
    if request.method == "POST" and _from_own_page() is False:
        raise Forbidden("this comes from the page of another site, which may not change anything here")


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
