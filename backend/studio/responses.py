"""Reading what came back: JSON, or a sentence on why it is not."""

import re
from urllib.parse import urlsplit

import requests

from backend.addresses import container_hint
from backend.errors import StudioError, StudioMissing, StudioUnreachable
from backend.studio.proxies import proxy_of, through
from backend.studio.types import Json
from backend.studio.urls import origin_of

# Refusals that proxies and gatekeepers give as well as Label Studio, and one that is a proxy's alone.
GATEKEEPERS = frozenset({401, 403, 407})

# What the other side has sent was no answer in TLS.
_NOT_ENCRYPTED = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
TRUST = "set REQUESTS_CA_BUNDLE to a file with the certificate of its issuer, beside those that are trusted by default"
_REMEDIES = (
    ("expired", "have it renewed"),
    ("not yet valid", "see to the clocks of both machines"),
    ("mismatch", "use the name that it was issued for"),
)


def read_json(response: requests.Response, base: str, what: str) -> Json:
    """Return the JSON of an answer of the server at ``base`` to ``what`` ("GET /path"); None where it has no body.

    Raises:
        StudioUnreachable: a failure on its side, or an answer that is not Label Studio's.
        StudioMissing: 404, in Label Studio's own words.
        StudioError: any other refusal, with Label Studio's reason.
    """
    status = response.status_code
    if response.is_redirect:
        target = urlsplit(response.headers.get("Location", ""))
        where = f"{target.scheme}://{target.netloc}{target.path}" if target.netloc else target.path
        raise StudioUnreachable(
            f"{base} sends us on to {where} ({status}{through(base)}): set LABEL_STUDIO_URL to the address that "
            "answers itself"
        )
    check_proxy(response, base)
    if status >= 500:
        raise StudioUnreachable(
            f"{base} failed at {what} ({status}: {reason_of(response)}{through(base)}): see its log"
        )
    if status == 429:
        raise StudioUnreachable(f"{base} is asked too often and puts us off ({status}: {reason_of(response)})")
    if response.ok and not response.content:
        return None
    if not _is_json(response):
        raise StudioUnreachable(
            f"{base} answered {what} with a page instead of data ({status}: {reason_of(response)}): "
            "a proxy is in between, or LABEL_STUDIO_URL is not Label Studio's address"
        )
    if status == 404 and not _is_label_studios(response):
        raise StudioUnreachable(
            f"{base} answered {what} with a 404 that is not Label Studio's ({reason_of(response)}): a proxy is in "
            "between, or LABEL_STUDIO_URL is not Label Studio's address"
        )
    if status == 404:
        raise StudioMissing(f"Label Studio has no {what.partition(' ')[2]} ({reason_of(response)})")
    if not response.ok:
        raise StudioError(f"Label Studio refused {what} ({status}: {reason_of(response)})")
    try:
        return response.json()
    except requests.JSONDecodeError as error:
        raise StudioUnreachable(f"{base} answered {what} with damaged JSON ({error})") from error


def check_proxy(response: requests.Response, base: str) -> None:
    """See whether a refusal is that of a proxy, or of another program before Label Studio, and not about our token.

    Raises:
        StudioUnreachable: it is.
    """
    status = response.status_code
    if status not in GATEKEEPERS or _is_label_studios(response):
        return
    found = f"{status}: {reason_of(response)}"
    proxy = proxy_of(base)
    if status == 407:
        who = f"the proxy {proxy}" if proxy else "a proxy"
        raise StudioUnreachable(
            f"{who} asks for a user and a password before it lets us reach {base} ({found}): write them into "
            "http_proxy or https_proxy, or add the host to no_proxy"
        )
    if proxy is not None:
        raise StudioUnreachable(
            f"{base} was not reached: the proxy {proxy} answered ({found}). Have it let us through, or add the host to "
            "no_proxy"
        )
    if not _is_json(response):
        raise StudioUnreachable(
            f"{base} answered with a page that is not Label Studio's ({found}): what stands before it has to let us "
            "through, or LABEL_STUDIO_URL has to be the address behind it"
        )


def unreachable(base: str, error: requests.RequestException) -> StudioUnreachable:
    """Say in a sentence why there was no answer."""
    proxy = proxy_of(base)
    if proxy is not None and not isinstance(error, requests.exceptions.SSLError):
        text = (
            f"{base} cannot be reached through the proxy {proxy} ({_inner(error)}): is that right, and does it let us "
            "through? Add the host to no_proxy to go without it"
        )
    elif isinstance(error, requests.exceptions.SSLError):
        text = certificate_text(base, through(base), error)
    elif isinstance(error, requests.Timeout):
        text = f"{base} did not answer in time: is Label Studio up?"
    elif isinstance(error, requests.ConnectionError):
        text = f"{base} cannot be reached ({_inner(error)}): is Label Studio up, is LABEL_STUDIO_URL right?"
        if hint := container_hint(origin_of(base).host):
            text += f" {hint}"
    else:
        text = f"{base} gave no usable answer ({_inner(error)})"
    return StudioUnreachable(text)


def certificate_text(where: str, how: str, error: requests.exceptions.SSLError) -> str:
    """Say in a sentence why no encrypted connection came about, and what to do; ``how`` names a proxy in between."""
    found = _inner(error)
    if any(sign in found for sign in _NOT_ENCRYPTED):
        return f"{where} does not speak https at this port{how}: write http://, or the port that it has for https"
    refused = re.search(r"certificate verify failed: (.*?)\.?(?: \(_ssl|$)", found)
    if refused is None:
        return f"{where} and this machine find no way to encrypt that both know{how} ({found})"
    remedy = next((text for sign, text in _REMEDIES if sign in refused[1]), TRUST)
    return f"the certificate of {where} is not accepted{how} ({refused[1]}): {remedy}"


def odd_answer(base: str, what: str) -> StudioUnreachable:
    """Return the error for an answer in JSON that has another form than Label Studio's."""
    return StudioUnreachable(
        f"{base} answered {what} with data of another form than Label Studio's: is LABEL_STUDIO_URL its address, and "
        "is it of version 1.23 or later?"
    )


def reason_of(response: requests.Response) -> str:
    """Return Label Studio's own words for a refusal, or the title of the page that came instead, in one line."""
    text = response.text
    if _is_json(response):
        try:
            found = response.json()
        except requests.JSONDecodeError:
            found = text
        if isinstance(found, dict):
            found = found.get("validation_errors") or found.get("detail") or found
        text = found if isinstance(found, str) else str(found)
    elif title := re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL):
        text = title.group(1)
    elif "<" in text[:200]:
        text = "an HTML page"
    return " ".join(text.split())[:300] or response.reason or "no reason given"


def _is_json(response: requests.Response) -> bool:
    return "json" in response.headers.get("Content-Type", "")


def _is_label_studios(response: requests.Response) -> bool:
    """Tell whether Label Studio itself refused: its framework says why in ``detail``."""
    try:
        found = response.json()
    except requests.JSONDecodeError:
        return False
    return isinstance(found, dict) and "detail" in found


def _inner(error: BaseException) -> str:
    """Return the cause in a few words; urllib3's own text repeats the whole address, query and all."""
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    if isinstance(reason, Exception) and reason.args and isinstance(reason.args[-1], Exception):
        reason = reason.args[-1]  # else Python's notation of both: ('Connection aborted.', RemoteDisconnected('...'))
    text = re.sub(r"^.*?(\[Errno|Failed to|Remote end|\[SSL)", r"\1", str(reason))[:160].strip("() ")
    return text + ")" * (text.count("(") - text.count(")"))
