"""One HTTP session to one Label Studio: tokens, timeouts, retries with backoff, and clear errors."""

import logging
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar
from urllib3.exceptions import ConnectTimeoutError, InvalidHeader, NewConnectionError, SSLError
from urllib3.util import Retry

from backend.addresses import ANYWHERE, AllowedAddresses
from backend.errors import StudioRefused, StudioUnreachable
from backend.studio.availability import availability
from backend.studio.places import Names
from backend.studio.proxies import ProxySession
from backend.studio.responses import check_proxy, read_json, reason_of, unreachable
from backend.studio.ssrf import GuardedAdapter, OriginAdapter
from backend.studio.tokens import NoAuth, TokenRejected, TokenRing, flaw_of
from backend.studio.types import Json, NamedToken
from backend.studio.urls import origin_of, without_user

logger = logging.getLogger(__name__)

CONNECT_S = 3.0
READ_S = 60.0
# For a server that failed when it was last asked: others wait meanwhile.
PROBE_CONNECT_S, PROBE_READ_S = 1.5, 10.0
# For bulk calls: on SQLite, Label Studio recounts a whole project's predictions at each import.
SLOW_READ_S = 600.0

ATTEMPTS = 4
# Of an address where nothing answers at all, which costs ``CONNECT_S`` each.
CONNECT_ATTEMPTS = 2
# First pause between attempts; each further one is twice as long.
BACKOFF_S = 0.5
RETRY_AFTER_MAX_S = 5.0
# Connections kept open, enough for every image download thread.
POOL = 32

# Answers after which the next token is tried.
REFUSING = frozenset({401, 403})
# The server says that it has not done it: anything may be sent again.
BUSY = frozenset({429})
GATEWAY = frozenset({502, 503, 504})
# It may have been done or not. 500 is here since Label Studio on SQLite answers so when its database is locked.
FAILED = GATEWAY | {500}


PUBLIC_ONLY = AllowedAddresses()
Observer = Callable[[str, float, bool], None]


def unobserved(call: str, seconds: float, ok: bool) -> None:
    """Note nothing."""


LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class StudioSession:
    """Sends requests to one server; safe to share between threads."""

    def __init__(
        self,
        server: str,
        tokens: Sequence[NamedToken],
        allowed: AllowedAddresses = PUBLIC_ONLY,
        observe: Observer = unobserved,
        public: str | None = None,
    ) -> None:
        """Take the server's address, which may have a path (``https://host/label-studio``).

        ``allowed`` says where besides it files may come from; ``observe`` gets each call's name, seconds and success;
        ``public`` is the address that the server calls itself, which nothing is ever sent to.
        """
        self.base = without_user(server.rstrip("/"))
        self.names = Names(self.base, public)
        self._origin = self.names.place.origin
        self._ring = TokenRing(tokens, self._exchange)
        self._http = _http(OriginAdapter(self._origin, pool_connections=POOL, pool_maxsize=POOL))
        self._elsewhere = _http(GuardedAdapter(allowed, pool_connections=POOL, pool_maxsize=POOL))
        self._trusted = _http(GuardedAdapter(ANYWHERE, pool_connections=POOL, pool_maxsize=POOL))
        self._clock_offset = 0.0
        self._observe = observe
        self.answered_bytes = 0  # of the last answer: a hint at how much the next one may have

    def __repr__(self) -> str:
        return f"StudioSession({self.base!r})"

    def get(self, path: str, **params: Json) -> Json:
        """GET JSON."""
        return self.call("GET", path, params=params)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Json] | None = None,
        body: Json = None,
        repeatable: bool = True,
        read_s: float = READ_S,
    ) -> Json:
        """Call the API and return its JSON (None where the answer has no body).

        ``repeatable=False`` is for what must not happen twice: it is sent again only when the server has certainly not
        begun it (no connection, or 429).

        Raises:
            StudioUnreachable: no answer, one that is not Label Studio's, or a failure on its side.
            StudioRefused: no token is accepted.
            StudioMissing: 404.
            StudioError: any other refusal, with Label Studio's reason.
        """
        probing = self._may_ask()
        timeout = (CONNECT_S, read_s)
        if probing:
            timeout = (PROBE_CONNECT_S, min(read_s, PROBE_READ_S) if method == "GET" else read_s)

        def send(auth: AuthBase) -> requests.Response:
            return self._http.request(
                method,
                self.base + path,
                params=params,
                json=body,
                auth=auth,
                headers={"Accept": "application/json"},
                timeout=timeout,
                allow_redirects=False,
            )

        attempts = 1 if probing else ATTEMPTS
        begun = time.monotonic()
        try:
            response = self.signed(
                lambda auth: self.repeat(lambda: send(auth), repeatable=repeatable, attempts=attempts)
            )
        except requests.RequestException as error:
            failure = unreachable(self.base, error)
            availability(self.base).failed(str(failure), time.monotonic() - begun)
            self._observe(_call_name(method, path), time.monotonic() - begun, False)
            raise failure from error
        self._observe(_call_name(method, path), time.monotonic() - begun, response.ok)
        self._note_clock(response)
        self.answered_bytes = len(response.content)
        return self._read(response, f"{method} {path}", time.monotonic() - begun)

    def _may_ask(self) -> bool:
        """Tell whether the server failed when it was last asked; raises StudioUnreachable if that was just now."""
        reason = availability(self.base).paused()
        if reason is not None:
            raise StudioUnreachable(reason)
        return availability(self.base).troubled

    def _read(self, response: requests.Response, what: str, took_s: float) -> Json:
        away = response.status_code in GATEWAY | BUSY
        try:
            answer = read_json(response, self.base, what)
        except StudioUnreachable as error:
            if away:
                availability(self.base).failed(str(error), took_s, _asked(response.headers.get("Retry-After")) or 0.0)
            raise
        finally:
            if not away:
                availability(self.base).answered()
        return answer

    def signed(
        self, send: Callable[[AuthBase], requests.Response], refusing: frozenset[int] = REFUSING
    ) -> requests.Response:
        """Send with each of our tokens until one is accepted; that one is tried first from then on.

        Raises:
            requests.RequestException: as ``send`` does.
            StudioRefused: none is; the text names each one and says what to create.
            StudioUnreachable: it is a proxy that refuses.
        """
        refusals = []
        for credential in self._ring:
            try:
                response = send(credential.auth())
                if response.status_code == 401 and credential.renew():
                    response = send(credential.auth())
            except TokenRejected as rejected:
                refusals.append(f"{credential.name} ({credential.kind}): {rejected}{flaw_of(credential.text)}")
                continue
            if response.status_code not in refusing:
                self._ring.remember(credential)
                return response
            check_proxy(response, self.base)
            reason = f"{reason_of(response)}{flaw_of(credential.text)}"
            refusals.append(f"{credential.name} ({credential.kind}): {reason}")
            response.close()
        raise StudioRefused(self._advice(refusals))

    def repeat(
        self, send: Callable[[], requests.Response], *, repeatable: bool, attempts: int = ATTEMPTS
    ) -> requests.Response:
        """Send, and send again after a pause while the failure may pass; the last answer or error is the caller's.

        Not urllib3's Retry on the adapters: to it an answer that is late is the same as a connection that was closed,
        and an address where nothing answers the same as one that refuses. The first of each pair must not be repeated
        as often as the second.
        """
        attempt = 0
        while True:
            last = attempt == attempts - 1
            try:
                response = send()
            except requests.ReadTimeout:
                raise  # it has had its time: a second request would only add to its load
            except requests.RequestException as error:
                silent = isinstance(error, requests.ConnectTimeout) and attempt + 1 >= CONNECT_ATTEMPTS
                if last or silent or not (repeatable or _never_sent(error)):
                    raise
                asked = None
            else:
                again = response.status_code in BUSY or (repeatable and response.status_code in FAILED)
                if last or not again:
                    return response
                response.close()
                asked = response.headers.get("Retry-After")
            time.sleep(_pause(attempt, asked))
            attempt += 1

    def stream(
        self,
        url: str,
        auth: AuthBase | None,
        read_s: float,
        *,
        trusted: bool,
        headers: Mapping[str, str] | None = None,
        cookies: RequestsCookieJar | None = None,
    ) -> requests.Response:
        """GET any address without following redirects, the body unread; ``auth`` None sends no credentials.

        ``cookies`` are those of others, and never go to Label Studio.

        Raises:
            ImageError: it is not ``trusted``, on another server than Label Studio's, and at an address that is not
                allowed.
        """
        ours = auth is not None or self.is_origin(url)
        http = self._http if ours else self._trusted if trusted else self._elsewhere
        return http.get(
            url,
            auth=auth or NoAuth(),
            stream=True,
            timeout=(CONNECT_S, read_s),
            allow_redirects=False,
            headers=headers,
            cookies=None if ours else cookies,
        )

    def is_origin(self, url: str) -> bool:
        """Tell whether an address, as ``plain_url`` writes it, is on Label Studio's server: scheme, host and port."""
        return origin_of(url) == self._origin

    def is_neighbour(self, url: str) -> bool:
        """Tell whether an address, as ``plain_url`` writes it, is on the machine of Label Studio, whatever the port.

        Images are often served beside it, and then by a private or loopback address as its own.
        """
        theirs, ours = origin_of(url).host, self._origin.host
        return bool(ours) and (theirs == ours or {theirs, ours} <= LOOPBACK)

    def path_below(self, url: str) -> str | None:
        """Return the path of an address, as ``plain_url`` writes it, below that of Label Studio, or None."""
        return self.names.place.below(url)

    def server_time(self, local: float) -> datetime:
        """Turn a local ``time.time()`` into the server's time, known from its answers to about a second."""
        return datetime.fromtimestamp(local + self._clock_offset, UTC)

    def _note_clock(self, response: requests.Response) -> None:
        date = response.headers.get("Date", "")
        with suppress(TypeError, ValueError):
            self._clock_offset = parsedate_to_datetime(date).timestamp() - time.time()

    def _exchange(self, refresh: str) -> str:
        def send() -> requests.Response:
            url, timeout = f"{self.base}/api/token/refresh/", (CONNECT_S, READ_S)
            return self._http.post(
                url, json={"refresh": refresh}, auth=NoAuth(), timeout=timeout, allow_redirects=False
            )

        response = self.repeat(send, repeatable=True)  # Label Studio does not rotate refresh tokens
        if response.status_code == 404:
            raise TokenRejected("this Label Studio does not know such tokens")
        check_proxy(response, self.base)
        if response.status_code in (400, 401, 403):
            raise TokenRejected(reason_of(response))
        access = read_json(response, self.base, "POST /api/token/refresh/").get("access")
        if not isinstance(access, str):
            raise TokenRejected("no access token came back for it")
        return access

    def _advice(self, refusals: Sequence[str]) -> str:
        found = "; ".join(refusals) if refusals else "we have none"
        return (
            f"no token is accepted by {self.base} - {found}. In Label Studio create a token under Account & Settings > "
            "Personal Access Token and set LABEL_STUDIO_API_KEY to it, or switch legacy tokens on under Organization > "
            "API Tokens Settings"
        )


def _call_name(method: str, path: str) -> str:
    """Name a call without ids, so that there are few names."""
    return f"{method} {re.sub(r'[0-9]+', '<id>', path)}"


def _http(adapter: HTTPAdapter) -> requests.Session:
    http = ProxySession()
    # A session cookie would make Label Studio ask for a CSRF token besides ours.
    http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    http.mount("http://", adapter)
    http.mount("https://", adapter)
    return http


def _pause(attempt: int, retry_after: str | None) -> float:
    """Return the seconds to wait: as asked for, within limits, else longer each time."""
    asked = _asked(retry_after)
    if asked is not None:
        return min(asked, RETRY_AFTER_MAX_S)
    spread = random.uniform(0.8, 1.2)  # so that workers do not come back together
    return float(BACKOFF_S * 2**attempt * spread)


def _asked(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which holds a number or a date; None where it holds neither."""
    with suppress(InvalidHeader):
        return float(Retry().parse_retry_after(retry_after or ""))
    return None


def _never_sent(error: requests.RequestException) -> bool:
    """Tell whether the connection failed before a byte of the request went out."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError, SSLError))
