"""What browsers may do with our pages: nothing but show them, and press our own buttons."""

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


def check_same_origin(for_scripts: str) -> None:
    """Refuse a form that another site has sent: the browser would add the password to it.

    for_scripts: what those use instead.

    Browsers say where a POST comes from in ``Sec-Fetch-Site`` or ``Origin``, and pages cannot forge either.

    Raises:
        Forbidden: it comes from elsewhere, or the caller does not say.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        allowed = site == "same-origin"
    else:
        allowed = request.headers.get("Origin", "").partition("://")[2] == request.host
    if not allowed:
        raise Forbidden(f"this button works on our own page only; scripts use {for_scripts}")
