"""Downloading the files that tasks name, with our token for Label Studio and for nobody else."""

import base64
import re
import time
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar

from backend.addresses import container_hint
from backend.errors import ImageError, ImageUnavailable, StudioUnreachable
from backend.studio import own_files
from backend.studio.as_browsers import HEADERS, redirect_target, settle_encoding
from backend.studio.availability import availability
from backend.studio.data_urls import is_data_url, read_data_url
from backend.studio.no_addresses import NOT_THERE, no_storage, refuse_no_address
from backend.studio.proxies import through
from backend.studio.responses import certificate_text, unreachable
from backend.studio.session import GATEWAY, StudioSession
from backend.studio.ssrf import ends_after
from backend.studio.urls import WEB, join_url, plain_url

# Largest file that is read; a camera's raw JPEG stays below 30 MB.
FILE_BYTES = 64 * 1024 * 1024
# Between two pieces of a file.
FILE_READ_S = 30.0
FILE_S = 120.0
# Few, since whoever downloads many files comes back to those that failed.
FILE_ATTEMPTS = 3
# As many as browsers follow.
REDIRECTS = 20
CHUNK = 64 * 1024

# What Label Studio 1.23.2 serves files under: uploads, local files and avatars; uploads in a cloud; linked storages.
# Whoever imports tasks writes their paths: our token must not be made to ask for others, some of which act on a GET
# (``/api/projects/1/next`` takes a lock) or make Label Studio itself call what the address names (``.../file-proxy``).
SIGNED = re.compile(r"/(data|storage-data)/|/(tasks|projects)/[0-9]+/(presign|resolve)/?$")
# After so many failures in a row a host is left alone for so long, which is shorter than until an image's next try.
HOST_FAILURES, HOST_PAUSE_S = 3, 15.0

# Answers after which another try makes sense; 424 is Label Studio's for a storage that failed.
PASSING = frozenset({408, 424, 425, 429, 500, 502, 503, 504})


class _NotThere(ImageError):  # noqa: N818 - the state, not the class of error, is the message
    """A server has nothing at an address."""


def fetch(session: StudioSession, reference: str, task_id: int) -> bytes:
    """Read the file that ``reference`` in a task's data stands for.

    Raises:
        ImageUnavailable: its source failed in a way that may pass.
        ImageError: it cannot be had.
        StudioUnreachable, StudioRefused: Label Studio as a whole is down, or takes no token of ours.
    """
    try:
        return _fetch(session, reference.strip(), task_id)
    except ValueError as error:  # from any of the libraries that read addresses, of task data or of a redirect
        raise ImageError("the address is not valid") from error


def _fetch(session: StudioSession, reference: str, task_id: int) -> bytes:
    if is_data_url(reference):
        return read_data_url(reference, FILE_BYTES)
    scheme = urlsplit(reference).scheme.lower()
    refuse_no_address(reference)
    if scheme and scheme not in WEB:
        return _from_storage(session, reference, task_id)
    url = _absolute(session, reference)
    try:
        return _download(session, url, trusted=session.is_neighbour(url))
    except _NotThere as error:
        if urlsplit(reference).netloc or own_files.is_served(session.path_below(url) or ""):
            raise
        raise ImageError(NOT_THERE) from error


def _from_storage(session: StudioSession, reference: str, task_id: int) -> bytes:
    """Have Label Studio sign the address, or hand the file through, with the keys of the project's storage."""
    encoded = base64.urlsafe_b64encode(reference.encode()).decode()
    url = plain_url(f"{session.base}/tasks/{task_id}/presign/?fileuri={encoded}")
    with _open(session, url) as response:
        if response.status_code == 404:
            raise no_storage(reference)
        if not response.is_redirect:
            return _body(session, response)
        target = _onward(session, response, url)
    # Whoever connected the storage to Label Studio has chosen its address, not whoever imported the task.
    return _download(session, target, trusted=True)


def _absolute(session: StudioSession, reference: str) -> str:
    names = session.names
    if urlsplit(reference).netloc:
        return names.inward(join_url(names.public, reference))  # "//host/path" gets a scheme, as on the labeling page
    path = urlsplit(session.base).path
    if path and not f"{reference}/".startswith(f"{path}/"):
        reference = f"{path}/{reference.lstrip('/')}"
    return names.inward(join_url(session.base, reference if reference.startswith("/") else f"/{reference}"))


def _download(session: StudioSession, url: str, *, trusted: bool) -> bytes:
    # Of this one file: some servers set a cookie and send us on to where they look for it.
    cookies = RequestsCookieJar()
    deadline = time.monotonic() + FILE_S
    for _ in range(REDIRECTS + 1):
        with _open(session, url, trusted=trusted, cookies=cookies) as response:
            if not session.is_origin(url):
                cookies.update(response.cookies)
            if not response.is_redirect:
                return _body(session, response)
            trusted = False  # where another server sends us on to has to be allowed by itself
            url = _onward(session, response, url)
        if time.monotonic() > deadline:
            raise ImageUnavailable(f"{_host(session, url)} was not reached in {FILE_S:g} s, after redirects")
    raise ImageError(f"{_host(session, url)} sends us on more than {REDIRECTS} times")


def _onward(session: StudioSession, response: requests.Response, url: str) -> str:
    target = redirect_target(response)
    if urlsplit(urljoin(url, target)).scheme not in WEB:
        raise ImageError(f"{_host(session, url)} sends us on to an address that is not of the web")
    return session.names.inward(join_url(url, target))


def _open(
    session: StudioSession, url: str, *, trusted: bool = False, cookies: RequestsCookieJar | None = None
) -> requests.Response:
    if not _takes_token(session, url):
        return _open_elsewhere(session, url, trusted=trusted, cookies=cookies)
    try:
        # 403 is the file's own answer here: no permission, or local files are not switched on.
        response = session.signed(lambda auth: _get(session, url, auth), refusing=frozenset({401}))
    except requests.RequestException as error:
        raise _of_label_studio(session, error) from error
    if response.status_code in GATEWAY:
        response.close()
        _check_health(session, response.status_code)
        raise ImageUnavailable(f"Label Studio answered {response.status_code} for this file")
    return response


def _of_label_studio(session: StudioSession, error: requests.RequestException) -> Exception:
    """Return what a request for a file of Label Studio's failed with: the file's error, or the server's."""
    if _is_about_address(error):
        return error
    if isinstance(error, requests.ReadTimeout):
        session.get("/health")  # one file that its storage does not deliver is no reason to give up on all
        return ImageUnavailable(f"Label Studio did not send the file in {FILE_READ_S:g} s")
    return unreachable(session.base, error)


def _is_about_address(error: requests.RequestException) -> bool:
    wrong = isinstance(error, requests.exceptions.InvalidURL)
    return wrong and not isinstance(error, requests.exceptions.InvalidProxyURL)


def _check_health(session: StudioSession, status: int) -> None:
    """See whether a gateway's refusal is about one file or about the whole server."""
    try:
        session.get("/health")
    except StudioUnreachable as error:
        text = f"{session.base} cannot be reached through its proxy ({status}{through(session.base)})"
        raise StudioUnreachable(text) from error


def _open_elsewhere(
    session: StudioSession, url: str, *, trusted: bool, cookies: RequestsCookieJar | None
) -> requests.Response:
    host = availability(urlsplit(url).netloc, HOST_FAILURES, HOST_PAUSE_S)
    failed = host.paused()
    if failed is not None:
        raise ImageUnavailable(failed)
    begun = time.monotonic()
    try:
        response = _get(session, url, None, trusted=trusted, cookies=cookies)
    except requests.RequestException as error:
        if _is_about_address(error):
            raise
        reason = _no_answer(session, url, error)
        host.failed(reason, time.monotonic() - begun)
        raise ImageUnavailable(reason) from error
    host.answered()
    return response


def _no_answer(session: StudioSession, url: str, error: requests.RequestException) -> str:
    host = _host(session, url)
    if isinstance(error, requests.exceptions.SSLError):
        return certificate_text(host, through(url), error)
    refused = isinstance(error, requests.ConnectionError) and not isinstance(error, requests.Timeout)
    hint = container_hint(host) if refused else ""
    return f"{host} did not answer ({type(error).__name__}{through(url)})" + (f". {hint}" if hint else "")


def _get(
    session: StudioSession,
    url: str,
    auth: AuthBase | None,
    *,
    trusted: bool = False,
    cookies: RequestsCookieJar | None = None,
) -> requests.Response:
    def send() -> requests.Response:
        return session.stream(url, auth, FILE_READ_S, trusted=trusted, headers=HEADERS, cookies=cookies)

    return session.repeat(send, repeatable=True, attempts=FILE_ATTEMPTS)


def _is_ours(session: StudioSession, url: str) -> bool:
    """Tell whether an address is Label Studio's, not that of another application on its host."""
    # ".." would leave our path once whoever is in between undoes the escapes.
    return session.path_below(url) is not None and ".." not in re.split(r"[/\\]", unquote(urlsplit(url).path))


def _takes_token(session: StudioSession, url: str) -> bool:
    """Tell whether an address is that of a file of Label Studio's.

    Its other paths are asked for as anybody could, not refused: behind the same address, or from Label Studio's own
    ``/static/``, images may well be served to everybody.
    """
    return _is_ours(session, url) and SIGNED.match(session.path_below(url) or "") is not None


def _body(session: StudioSession, response: requests.Response) -> bytes:
    host = _host(session, response.url)
    if not response.ok:
        text = f"{host} answered {response.status_code} {response.reason or ''}".rstrip() + through(response.url)
        unsigned = _is_ours(session, response.url) and not _takes_token(session, response.url)
        if response.status_code in (401, 403) and unsigned:
            text += ": it was asked without our token, which goes with /data/, /storage-data/ and linked storages alone"
        elif hint := _advice(session, response):
            text += f": {hint}"
        if response.status_code in PASSING:
            raise ImageUnavailable(text)
        raise _NotThere(text) if response.status_code in (404, 410) else ImageError(text)
    too_large = ImageError(f"the file is larger than {FILE_BYTES / 2**20:g} MiB: make it smaller")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > FILE_BYTES:
        raise too_large
    settle_encoding(response)
    body, error = bytearray(), None
    deadline = time.monotonic() + FILE_S
    with ends_after(FILE_S, response.raw.shutdown):
        try:
            for chunk in response.iter_content(CHUNK):
                body += chunk
                if len(body) > FILE_BYTES:
                    raise too_large
                if time.monotonic() > deadline:
                    break
        except requests.RequestException as broken:
            error = broken
    if time.monotonic() > deadline:
        raise ImageUnavailable(f"{host} did not send the whole file in {FILE_S:g} s") from error
    if error is not None:
        raise ImageUnavailable(f"{host} broke off ({type(error).__name__})") from error
    return bytes(body)


def _advice(session: StudioSession, response: requests.Response) -> str:
    """Return what to do where Label Studio refuses one of its own files."""
    if not _takes_token(session, response.url):
        return ""
    return own_files.advice(session.path_below(response.url) or "", urlsplit(response.url).query, response.status_code)


def _host(session: StudioSession, url: str) -> str:
    """Name a server without the path and query of an address, which may hold keys."""
    return "Label Studio" if _is_ours(session, url) else urlsplit(url).hostname or "the address"
