"""Proxies of the environment: not for this machine, and named where they may be the cause of an error."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import requests
from requests.utils import get_environ_proxies, select_proxy

from backend.addresses import is_loopback
from backend.studio.urls import origin_of, without_user


class ProxySession(requests.Session):
    """Uses the proxies that the environment names (``http_proxy``, ``no_proxy``), except for this machine."""

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: MutableMapping[str, str] | None,
        stream: bool | None,
        verify: bool | str | None,
        cert: str | tuple[str, str] | None,
    ) -> Any:
        """Return what a request is sent with, as ``requests`` has it, but without a proxy to a loopback address."""
        settings: Any = super().merge_environment_settings(url, proxies, stream, verify, cert)
        return {**settings, "proxies": {}} if _is_direct(url if isinstance(url, str) else "") else settings


def proxy_of(url: str) -> str | None:
    """Return the proxy that an address is asked for through, without its password, or None."""
    if _is_direct(url):
        return None
    proxies: Mapping[str, str] = get_environ_proxies(url, no_proxy=None)
    proxy = select_proxy(url, dict(proxies))
    return without_user(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def through(url: str) -> str:
    """Return the words that name the proxy behind an error at an address, or an empty text where there is none."""
    proxy = proxy_of(url)
    return f", through the proxy {proxy}" if proxy else ""


def _is_direct(url: str) -> bool:
    try:
        return is_loopback(origin_of(url).host)
    except ValueError:
        return False
