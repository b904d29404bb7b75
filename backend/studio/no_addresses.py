"""What stands in task data where an address belongs: paths of somebody's disk, misspelled and half addresses.

Each kind gets one sentence, which says what to do. None of them names the path, so that equal mistakes read alike.
"""

import re

from backend.errors import ImageError
from backend.studio.urls import WEB

ON_A_DISK = (
    "this is a path on somebody's disk, which only that machine can read: upload the files to Label Studio, or connect "
    "their folder to the project as local files storage"
)
NOT_THERE = (
    "Label Studio has nothing at this path. If it is a path on somebody's disk, upload the files to Label Studio, or "
    "connect their folder to the project as local files storage; if it is an address, write it whole, from https:// on"
)
NO_SCHEME = (
    "this is an address without its beginning, which is read as a path: write http:// or https:// before its host"
)
ONE_BROWSER = "a blob: address, which only the browser that made it can read: upload the file to Label Studio"

# Drives, shares and whatever else has a backslash before any scheme or host; what a shell replaces; homes.
_DISK = re.compile(
    r"(?i:[a-z]:(?![/\\]*$)|[^:/?#]*\\|~[^/]*/|%\w+%|\$\w+/|\$\{\w+\}|file:)|/(?:home|Users|root|mnt|Volumes)/[^/]"
)
# Straight ones, and those that word processors make of them.
_QUOTES = re.compile("[\"'`\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb]|%22|&quot;")
_HOST_AND_PORT = re.compile(r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]):[0-9]{1,5}(?:[/?]|$)", re.IGNORECASE)
_BARE_HOST = re.compile(r"(?:www\.[^/]+\.[a-z]+|(?:[0-9]{1,3}\.){3}[0-9]{1,3})/", re.IGNORECASE)
# The first word, and what separates it from a host; one word alone before a slash is a folder.
_BEGINNING = re.compile(r"([a-z]{3,7})\s*(?:[:;.,]+\s*[/\\]+:?|[/\\]{2,}[:;]?|:)", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"https?://(?!https?[:/])[^/\\]", re.IGNORECASE)
_TWICE = re.compile(r"https?://https?[:/]", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(//)?", re.IGNORECASE)

# What Label Studio 1.23.2 connects; of others its answer is that there is none.
STORAGES = ("s3", "gs", "azure-blob")
# Schemes that browsers and we do not read, near enough to http to look like a misspelling.
_OTHERS = frozenset({"ftp", "ftps", "sftp", "tftp", "scp", "ssh", "smb", "nfs", "afp", "hdfs", "dbfs", "dav", "davs"})
TYPOS = 2  # letters that a misspelled scheme has too many, too few or wrong


def refuse_no_address(reference: str) -> None:
    """Refuse what cannot be an address of an image, with the reason.

    Raises:
        ImageError: it cannot.
    """
    quoted = _QUOTES.match(reference)
    bare = _QUOTES.sub("", reference).strip()
    if _DISK.match(bare):
        raise ImageError(ON_A_DISK)
    if quoted:
        raise ImageError("the address has quotes around it: leave them out of the task's data")
    if _WEB_ADDRESS.match(reference):
        return
    if reference.lower().startswith("blob:"):
        raise ImageError(ONE_BROWSER)
    if _TWICE.match(reference):
        raise ImageError("the address begins with http:// or https:// twice: leave one of them out")
    beginning = _BEGINNING.match(reference)
    if beginning and beginning[1].lower() not in _OTHERS and _is_near_http(beginning[1].lower()):
        raise ImageError(f"the address begins with '{beginning[0]}', where https:// or http:// belongs")
    if _HOST_AND_PORT.match(reference) or _BARE_HOST.match(reference):
        raise ImageError(NO_SCHEME)


def no_storage(reference: str) -> ImageError:
    """Return what to say where Label Studio has no storage for an address."""
    found = _SCHEME.match(reference)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in STORAGES:
        known = ", ".join(f"{name}://" for name in STORAGES)
        return ImageError(
            f"'{scheme}:' is neither of the web (https://, http://) nor of a storage of Label Studio's ({known})"
        )
    if found[2] is None:
        return ImageError(f"an address in a storage begins with '{scheme}://' and the bucket's name")
    bucket = reference[found.end() :].partition("/")[0]
    return ImageError(f"Label Studio has no cloud storage for {scheme}://{bucket}: connect it to the project")


def _is_near_http(word: str) -> bool:
    return any(_edits(word, scheme) <= TYPOS for scheme in WEB)


def _edits(one: str, other: str) -> int:
    """Count the letters to be put in, taken out or exchanged (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != b)))
    return row[-1]
