"""``data:`` addresses, read as browsers read them (WHATWG: URL, Fetch section 6, Infra section 4.8)."""

import base64
import re
from urllib.parse import unquote_to_bytes

from backend.errors import ImageError

# Around an address; browsers strip it, and remove line ends and tabs within.
_AROUND = "".join(map(chr, range(0x21)))
_REMOVED = str.maketrans("", "", "\t\n\r")
_BASE64 = re.compile(r"; *base64$", re.IGNORECASE)
_WHITE = b"\t\n\f\r "
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/]")


def is_data_url(reference: str) -> bool:
    """Tell whether an address holds the file itself."""
    return reference.lstrip(_AROUND)[:16].translate(_REMOVED)[:5].lower() == "data:"


def read_data_url(reference: str, most: int) -> bytes:
    """Return the file that an address holds, of at most ``most`` bytes.

    Raises:
        ImageError: it is cut off, too large or damaged, so that browsers show nothing either.
    """
    if len(reference) > 4 * most:  # percent-encoded, a byte takes three characters
        raise ImageError(_too_large(most))
    address = reference.strip(_AROUND).translate(_REMOVED).partition("#")[0]
    kind, comma, text = address[len("data:") :].partition(",")
    if not comma:
        raise ImageError("a data: address without a comma, so that it is cut off: import the task again")
    body = unquote_to_bytes(text)
    if _BASE64.search(kind.strip(_AROUND)):
        body = _from_base64(body)
    if len(body) > most:
        raise ImageError(_too_large(most))
    return body


def _from_base64(text: bytes) -> bytes:
    """Decode what browsers decode: white space and padding do not matter, nor do the bits that are left over."""
    packed = text.translate(None, _WHITE)
    if len(packed) % 4 == 0:
        packed = packed[:-2] if packed.endswith(b"==") else packed.removesuffix(b"=")
    foreign = _FOREIGN.search(packed)
    if foreign is not None:
        found = foreign.group().decode("latin-1")
        raise ImageError(f"a data: address with damaged base64 ({found!r} is none of its characters): import it again")
    if len(packed) % 4 == 1:
        raise ImageError("a data: address with damaged base64 (a character is missing): import the task again")
    return base64.b64decode(packed + b"=" * (-len(packed) % 4))


def _too_large(most: int) -> str:
    return f"a data: address of more than {most / 2**20:g} MiB: upload the file instead, or make it smaller"
