r"""Web addresses, read once and in the one way in which they are then connected to.

Where two readers differ, a token goes astray: to ``urllib.parse``, ``http://stranger\@studio/`` is on ``studio``; to
urllib3, which connects, on ``stranger``. So an address that can be read in two ways is refused, any other is written as
it will be sent, and whatever is decided about it is decided about that.
"""

import re
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from requests import PreparedRequest
from urllib3.util import parse_url

from backend.errors import ImageError

WEB = frozenset({"http", "https"})
PORTS = {"http": 80, "https": 443}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AUTHORITY = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_AMBIGUOUS = re.compile(r"[\\\s]")
# Often enough: escapes are undone the first time, ``..`` that come out of them the second.
REWRITES = 4


class Origin(NamedTuple):
    """What makes two addresses the same server's."""

    scheme: str
    host: str
    port: int | None


def origin_of(url: str) -> Origin:
    """Read the server of an address as the connection does; raises ValueError if it is none."""
    parts = parse_url(url)
    scheme = parts.scheme or ""
    return Origin(scheme, (parts.host or "").strip("[]"), parts.port or PORTS.get(scheme))


def join_url(base: str, reference: str) -> str:
    """Complete a reference in task data or in a redirect, and write it as it will be sent.

    Raises:
        ImageError: it can be read in more than one way, or names a user.
        ValueError: it is no address of the web.
    """
    if _CONTROL.search(reference):
        raise ImageError("the address has control characters in it")
    return plain_url(urljoin(base, reference))


def plain_url(url: str) -> str:
    """Write an address as it will be sent; raises as ``join_url`` does."""
    found = _AUTHORITY.match(url)
    if found is None or _CONTROL.search(url):
        raise ValueError("not an address of the web")
    if _AMBIGUOUS.search(found[1]):
        raise ImageError("the address has a backslash or a space before its path, which programs read differently")
    if "@" in found[1]:
        raise ImageError("the address has a user name before its host ('...@'): leave it out, it would not be sent")
    for _ in range(REWRITES):
        written = prepared(url)
        if written == url:
            break
        url = written
    else:
        raise ValueError("an address that is written differently each time")
    if origin_of(url).host != urlsplit(url).hostname:
        raise ImageError("the address has a host that programs read differently")
    return url


def prepared(url: str) -> str:
    """Write an address as requests does before it sends; raises ValueError."""
    request = PreparedRequest()
    request.prepare_url(url, None)
    return request.url or ""


def without_user(url: str) -> str:
    """Leave a user name and password out, which requests does not send beside a token either."""
    return re.sub(r"^(https?://)[^/?#\\]*@", r"\1", url, flags=re.IGNORECASE)
