"""What browsers do and HTTP libraries do not: servers of images are tried with browsers alone."""

import requests
from urllib3.response import HTTPResponse

from backend.errors import ImageError

# Servers refuse a library's name, or one that says nothing, and choose a format by what is accepted: ours are those
# that every release of Pillow reads, before others.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; PT4AL; images of a Label Studio project)",
    "Accept": "image/webp,image/png,image/jpeg,image/*;q=0.9,*/*;q=0.8",
    "Accept-Language": "en,*;q=0.5",
    # Tunnels show browsers a page of their own before the first answer, unless they are told that nobody reads it:
    # ngrok, localtunnel, dev tunnels, Pinggy, zrok.
    "ngrok-skip-browser-warning": "1",
    "bypass-tunnel-reminder": "1",
    "X-Tunnel-Skip-AntiPhishing-Page": "true",
    "X-Pinggy-No-Screen": "1",
    "skip_zrok_interstitial": "1",
}
BROWSERS_READ = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})


def redirect_target(response: requests.Response) -> str:
    """Return where a redirect leads: its bytes are UTF-8, which HTTP libraries read as Latin-1."""
    target = response.headers["Location"].strip()
    try:
        return target.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return target


def settle_encoding(response: requests.Response) -> None:
    """Have the body of an answer, which is unread, decoded as browsers do.

    Where an encoding is unknown (storages keep what uploaders wrote, such as ``aws-chunked`` or ``utf-8``), the body is
    taken as it is.

    Raises:
        ImageError: browsers know it, and we do not.
    """
    named = (name.strip().lower() for name in response.headers.get("Content-Encoding", "").split(","))
    encodings = [name for name in named if name not in ("", "identity")]
    if not BROWSERS_READ.issuperset(encodings):
        encodings = []
    unread = [name for name in encodings if name not in HTTPResponse.CONTENT_DECODERS]
    if unread:
        raise ImageError(
            f"the file comes packed as '{unread[0]}' though we have not asked for it: have its server send it as it is"
        )
    response.raw.headers["Content-Encoding"] = ", ".join(encodings)
