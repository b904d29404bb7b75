"""What of an address is Label Studio's: it has the address that we reach it at, and the one that it calls itself.

Task data hold the second one wherever Label Studio wrote an address itself: local files once ``LABEL_STUDIO_HOST`` is
set, uploads in a cloud, exports. We may not reach it by that, and the token is for the first one alone.
"""

from typing import NamedTuple, Self
from urllib.parse import urlsplit

from backend.studio.urls import Origin, origin_of, plain_url, prepared, without_user

NOWHERE = Origin("", "", None)


class Place(NamedTuple):
    """Where a server's paths begin: its origin, and a path of its own without a slash at the end."""

    origin: Origin
    path: str

    @classmethod
    def of(cls, base: str) -> Self:
        """Read a server's address; of one that is none, which every call then says, return a place like no other."""
        try:
            written = prepared(base)
            return cls(origin_of(written), urlsplit(written).path.rstrip("/"))
        except ValueError:
            return cls(NOWHERE, "")

    def below(self, url: str) -> str | None:
        """Return the path of an address, as ``plain_url`` writes it, below this place; None outside of it."""
        path = urlsplit(url).path
        if origin_of(url) != self.origin or not f"{path}/".startswith(f"{self.path}/"):
            return None
        return path.removeprefix(self.path)


class Names:
    """Label Studio's address as we reach it, and the one that it calls itself; each may have a path."""

    def __init__(self, base: str, public: str | None) -> None:
        called = Place.of(_without_dot(without_user(public))) if public else Place(NOWHERE, "")
        self.base, self.place = base, Place.of(base)
        self.public = public if public and called.origin != NOWHERE else base
        self._aliases = _aliases(self.place, called)

    def inward(self, url: str) -> str:
        """Return an address under what Label Studio calls itself as the one that we reach it at, any other as it is.

        ``url`` is as ``plain_url`` writes it, and so is what comes back.
        """
        named = _without_dot(url)
        found = [(place, below) for place in self._aliases if (below := place.below(named)) is not None]
        if not found:
            return url
        place, below = max(found, key=lambda one: len(one[0].path))
        if self.place.below(url) is not None and len(self.place.path) >= len(place.path):
            return url  # it is the one that we reach it at already
        query = urlsplit(url).query
        return plain_url(f"{self.base}/{below.lstrip('/')}{f'?{query}' if query else ''}")


def _aliases(own: Place, public: Place) -> tuple[Place, ...]:
    if public.origin == NOWHERE or public == own:
        return ()
    # Told of a path, Label Studio writes it before its own, and answers without it where no proxy takes it off.
    both = Place(own.origin, own.path + public.path)
    return (public, both) if public.path and public.path != own.path else (public,)


def _without_dot(url: str) -> str:
    """Return an address whose host is written without the dot at its end, which stands for the same name."""
    host = without_user(url).partition("://")[2].partition("/")[0]
    name, colon, port = host.partition(":")
    return url.replace(host, f"{name.rstrip('.')}{colon}{port}", 1) if name.endswith(".") else url
