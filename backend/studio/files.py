"""Downloading the files that tasks name, with our token for Label Studio and for nobody else."""

from __future__ import annotations

import base64
import binascii
import time
from urllib.parse import unquote, unquote_to_bytes, urljoin, urlsplit

import requests
from requests.auth import AuthBase

from backend.errors import ImageError, ImageUnavailable, StudioUnreachable
from backend.studio.answers import unreachable
from backend.studio.session import StudioSession

FILE_BYTES = 64 * 1024 * 1024
"""Largest file that is read; a camera's raw JPEG stays below 30 MB."""
FILE_READ_S = 30.0
"""Between two pieces of a file."""
FILE_S = 300.0
FILE_ATTEMPTS = 3
"""Few, since whoever downloads many files comes back to those that failed."""
REDIRECTS = 5
CHUNK = 64 * 1024

WEB = frozenset({"http", "https"})
PASSING = frozenset({408, 424, 425, 429, 500, 502, 503, 504})
"""Answers after which another try makes sense; 424 is Label Studio's for a storage that failed."""
GATEWAY = frozenset({502, 503, 504})


def fetch(session: StudioSession, reference: str, task_id: int) -> bytes:
    """Read the file that `reference` in a task's data stands for.

    Raises:
        ImageUnavailable: its source failed in a way that may pass.
        ImageError: it cannot be had.
        StudioUnreachable, StudioRefused: Label Studio as a whole is down, or takes no token of ours.
    """
    reference = reference.strip()
    try:
        scheme = urlsplit(reference).scheme.lower()
    except ValueError as error:
        raise ImageError(f"the address is not valid ({error})") from error
    if scheme == "data":
        return _inline(reference)
    if scheme == "file":
        raise ImageError("file:// addresses are not read: add the folder to Label Studio as local files storage")
    if scheme and scheme not in WEB:
        return _from_storage(session, reference, task_id)
    return _download(session, _absolute(session, reference))


def _from_storage(session: StudioSession, reference: str, task_id: int) -> bytes:
    """Have Label Studio sign the address, or hand the file through, with the keys of the project's storage."""
    encoded = base64.urlsafe_b64encode(reference.encode()).decode()
    url = f"{session.base}/tasks/{task_id}/presign/?fileuri={encoded}"
    with _open(session, url) as response:
        if response.status_code == 404:
            where = "://".join(urlsplit(reference)[:2])
            raise ImageError(f"Label Studio has no cloud storage for {where}: connect it to the project")
        if not response.is_redirect:
            return _body(session, response)
        target = urljoin(url, response.headers["Location"])
    return _download(session, target)


def _absolute(session: StudioSession, reference: str) -> str:
    if urlsplit(reference).netloc:
        return urljoin(session.base, reference)  # "//host/path" gets a scheme
    path = session.root.path
    if path and not f"{reference}/".startswith(f"{path}/"):
        reference = f"{path}/{reference.lstrip('/')}"
    return urljoin(session.base, reference if reference.startswith("/") else f"/{reference}")


def _download(session: StudioSession, url: str) -> bytes:
    for _ in range(REDIRECTS + 1):
        with _open(session, url) as response:
            if not response.is_redirect:
                return _body(session, response)
            url = urljoin(url, response.headers["Location"])
            if urlsplit(url).scheme not in WEB:
                raise ImageError(f"{_host(session, response.url)} sends us on to an address that is not of the web")
    raise ImageError(f"{_host(session, url)} sends us on more than {REDIRECTS} times")


def _open(session: StudioSession, url: str) -> requests.Response:
    if not _is_ours(session, url):
        try:
            return _get(session, url, None)
        except requests.RequestException as error:
            raise ImageUnavailable(f"{_host(session, url)} did not answer ({type(error).__name__})") from error
    try:
        # 403 is the file's own answer here: no permission, or local files are not switched on.
        response = session.signed(lambda auth: _get(session, url, auth), refusing=frozenset({401}))
    except requests.RequestException as error:
        raise unreachable(session.base, error) from error
    if response.status_code in GATEWAY:
        response.close()
        raise StudioUnreachable(f"{session.base} cannot be reached through its proxy ({response.status_code})")
    return response


def _get(session: StudioSession, url: str, auth: AuthBase | None) -> requests.Response:
    return session.repeat(lambda: session.stream(url, auth, FILE_READ_S), repeatable=True, attempts=FILE_ATTEMPTS)


def _is_ours(session: StudioSession, url: str) -> bool:
    target, root = urlsplit(url), session.root
    if ".." in unquote(target.path).split("/"):
        return False  # would leave our path on a host that others may share
    same_origin = (target.scheme, target.hostname, _port(url)) == (root.scheme, root.hostname, _port(session.base))
    return same_origin and f"{target.path}/".startswith(f"{root.path}/")


def _port(url: str) -> int | None:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _body(session: StudioSession, response: requests.Response) -> bytes:
    host = _host(session, response.url)
    if not response.ok:
        text = f"{host} answered {response.status_code} {response.reason or ''}".rstrip()
        raise ImageUnavailable(text) if response.status_code in PASSING else ImageError(text)
    too_large = ImageError(f"the file is larger than {FILE_BYTES / 2**20:g} MiB")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > FILE_BYTES:
        raise too_large
    body = bytearray()
    deadline = time.monotonic() + FILE_S
    try:
        for chunk in response.iter_content(CHUNK):
            body += chunk
            if len(body) > FILE_BYTES:
                raise too_large
            if time.monotonic() > deadline:
                raise ImageUnavailable(f"{host} did not send the whole file in {FILE_S:g} s")
    except requests.RequestException as error:
        raise ImageUnavailable(f"{host} broke off ({type(error).__name__})") from error
    return bytes(body)


def _inline(reference: str) -> bytes:
    head, comma, body = reference.partition(",")
    if not comma or len(body) > FILE_BYTES:
        raise ImageError("a data: address that is cut off or too large")
    try:
        return base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except binascii.Error as error:
        raise ImageError(f"a data: address with damaged base64 ({error})") from error


def _host(session: StudioSession, url: str) -> str:
    """Name a server without the path and query of an address, which may hold keys."""
    return "Label Studio" if _is_ours(session, url) else urlsplit(url).hostname or "the address"
