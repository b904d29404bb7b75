"""Label Studio's two kinds of token: which of ours works, and access tokens that are renewed in time."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from requests import PreparedRequest
from requests.auth import AuthBase

from backend.studio.types import Json, NamedToken

# An access token this close to its end is renewed before it is used.
RENEW_BEFORE_S = 60.0

# Assumed life of an access token that does not say how long it lives (Label Studio's default).
ACCESS_LIFE_S = 300.0

LEGACY_LENGTH = 40  # hexadecimal digits of a legacy token


class TokenRejected(Exception):  # noqa: N818 - stays inside this package; StudioRefused is what callers see
    """The server does not take this token; the text is its reason."""


class NoAuth(AuthBase):
    """Sends no credentials, and keeps requests from taking some out of a .netrc file."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign nothing."""
        request.headers.pop("Authorization", None)
        return request


class HeaderAuth(NoAuth):
    """Sends one Authorization header."""

    def __init__(self, header: str) -> None:
        self._header = header

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign the request."""
        request.headers["Authorization"] = self._header
        return request


class Credential(Protocol):
    """One token, ready to be sent."""

    name: str
    kind: str
    text: str

    def auth(self) -> AuthBase:
        """Return what signs a request; raises TokenRejected if the server does not take the token."""
        ...

    def renew(self) -> bool:
        """Make the next ``auth`` ask for a fresh access token; False where that cannot help."""
        ...


class LegacyToken:
    """A token of the kind that never expires (40 hex digits)."""

    kind = "legacy token"

    def __init__(self, token: NamedToken) -> None:
        self.name, self.text = token.name, token.text
        self._auth = HeaderAuth(f"Token {token.text}")

    def auth(self) -> AuthBase:
        """Return the header with the token itself."""
        return self._auth

    def renew(self) -> bool:
        """There is nothing to renew."""
        return False


class PersonalToken:
    """A personal access token: a JWT refresh token, exchanged for access tokens that live some minutes."""

    kind = "personal access token"

    def __init__(self, token: NamedToken, refresh: Callable[[str], str]) -> None:
        self.name, self.text = token.name, token.text
        self._refresh = refresh
        self._lock = threading.Lock()
        self._auth: AuthBase | None = None
        self._renew_at = 0.0

    def auth(self) -> AuthBase:
        """Return the header with an access token that lives long enough, asking for a new one where needed."""
        with self._lock:
            if self._auth is None or time.monotonic() >= self._renew_at:
                access = self._refresh(self.text)
                self._auth = HeaderAuth(f"Bearer {access}")
                self._renew_at = time.monotonic() + max(_lifetime(access) - RENEW_BEFORE_S, 1.0)
            return self._auth

    def renew(self) -> bool:
        """Forget the access token: the server may have restarted with another key."""
        with self._lock:
            self._auth = None
        return True


class TokenRing:
    """Our tokens in the order to be tried, the one that worked last first."""

    def __init__(self, tokens: Sequence[NamedToken], refresh: Callable[[str], str]) -> None:
        self._all: list[Credential] = [
            PersonalToken(token, refresh) if is_personal(token.text) else LegacyToken(token)
            for token in tokens
            if token.text
        ]
        self._working: Credential | None = None

    def __iter__(self) -> Iterator[Credential]:
        working = self._working
        if working is not None:
            yield working
        yield from (credential for credential in self._all if credential is not working)

    def remember(self, credential: Credential) -> None:
        """Try this one first from now on."""
        self._working = credential


def is_personal(token: str) -> bool:
    """Tell a personal access token (a JWT: three parts joined by dots) from a legacy one."""
    return token.count(".") == 2


def flaw_of(token: str) -> str:
    """Return in brackets what can be seen to be wrong with a token that was refused, or an empty text."""
    if not is_personal(token):
        cut = len(token) != LEGACY_LENGTH
        return f" (it has {len(token)} characters, one of Label Studio's has {LEGACY_LENGTH})" if cut else ""
    try:
        claims = _claims(token)
        if claims.get("token_type") == "access":
            return " (this is an access token, which lives for minutes: set the personal access token itself)"
        ended = datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""
    return f" (it ended on {ended:%Y-%m-%d})" if ended < datetime.now(UTC) else ""


def _claims(token: str) -> Json:
    """Return what a JWT says of itself; raises ValueError for what is none."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _lifetime(access: str) -> float:
    # The difference of the token's own two times, so that our clock may differ from the server's.
    try:
        claims = _claims(access)
        return float(claims["exp"]) - float(claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError):
        return ACCESS_LIFE_S
