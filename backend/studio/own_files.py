"""What to do where Label Studio refuses one of its own files: its answers are a number without words."""

import re
from urllib.parse import parse_qs

# Under ``/data/`` it serves these; whatever else somebody has written there is a path of another machine's disk.
SERVED = re.compile(r"/data/(?:upload/|local-files\b|avatars/)|/storage-data/|/(?:tasks|projects)/")
LOCAL_FILES = "/data/local-files"

UPLOAD_GONE = "the upload is not there any more: import the file again"
NO_STORAGE = "it has no storage for this address: connect it to the project"
NOT_SERVED = "it does not serve local files: start it with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
UNNAMED = "the address names no file: its path belongs behind ?d="
BACKSLASHES = "the path behind ?d= has backslashes, which a Label Studio on Windows alone reads: write slashes"
PLUS = "the path behind ?d= has a +, which stands for a space in an address: write %2B"
NO_LOCAL_FILE = (
    "there is no such file in a folder that is connected as local files storage: connect its folder to the project, or "
    "correct the path behind ?d=, which begins at LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
)


def is_served(path: str) -> bool:
    """Tell whether Label Studio has files of its own under a path, as it stands below its address."""
    return SERVED.match(path) is not None


def advice(path: str, query: str, status: int) -> str:
    """Return what to do about a refusal of one of its files; empty where nothing is known of it."""
    if path.startswith(LOCAL_FILES):
        return _of_local_file(query, status)
    if status not in (404, 410) or not is_served(path):
        return ""
    return NO_STORAGE if path.startswith(("/tasks/", "/projects/")) else UPLOAD_GONE


def _of_local_file(query: str, status: int) -> str:
    named = parse_qs(query).get("d", [""])[0]
    if status == 403:
        return NOT_SERVED if named else UNNAMED
    if status not in (400, 404):
        return ""
    if "\\" in named:
        return BACKSLASHES
    return PLUS if "+" in query else NO_LOCAL_FILE
