"""Calls to processes of this installation, which never go through a proxy of the environment."""

import urllib.request
from http.client import HTTPException

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, timeout_s: float) -> bytes:
    """Return what one of our own processes answers.

    Raises:
        OSError: there is no answer, or one that is no success.
    """
    try:
        with _direct.open(url, timeout=timeout_s) as answer:
            body: bytes = answer.read()
            return body
    except HTTPException as error:  # something else listens there
        raise OSError(f"no answer of HTTP ({type(error).__name__})") from error
