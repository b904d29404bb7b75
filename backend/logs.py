"""Logging: one readable line in a terminal, or one JSON object a line, each with its project, round and step.

What it is about is set once, around the work (``about``), and stands in every line that is written meanwhile.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from backend.config import Settings

FIELDS = ("project", "round", "step")
# Nothing here logs a token; this holds should a library ever put one into an error's text.
_SECRETS = re.compile(r"\b(Token|Bearer|Basic) [\w.~+/=-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+")

_about: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039 - never changed in place


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Say what the block is about: ``project`` by Label Studio's id, ``round``, ``step``."""
    token = _about.set({**_about.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _about.reset(token)


def configure(process: str, settings: Settings) -> None:
    """Set logging up for this process: ours from LOG_LEVEL on, others' warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_fields)
    handler.setFormatter(JsonLines(process) if settings.log_format == "json" else TextLines(process))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("backend", "model", "pt4al"):
        logging.getLogger(package).setLevel(settings.log_level)


WIPE = "\r\x1b[K"  # back to the beginning of a terminal's line, and clear it


class TextLines(logging.Formatter):
    """``14:03:22 advance project=3 round=1 step=post: 22 images sent``."""

    def __init__(self, process: str) -> None:
        """Name the process in every line."""
        super().__init__(f"%(asctime)s {process:<7} %(about)s%(message)s", "%H:%M:%S")
        self._before = WIPE if sys.stderr.isatty() else ""  # of what ``terminal`` has painted there

    def format(self, record: logging.LogRecord) -> str:
        """Write the line, and a traceback below it if there is one."""
        known = [f"{name}={value}" for name in FIELDS if (value := getattr(record, name, None)) is not None]
        record.about = " ".join(known) + ": " if known else ""
        return self._before + hide(super().format(record))


class JsonLines(logging.Formatter):
    """``{"time": "2025-01-31T14:03:22.123Z", "level": "INFO", "process": "advance", "project": 3, ...}``."""

    converter = time.gmtime  # type: ignore[assignment] # the stub knows only one of its forms

    def __init__(self, process: str) -> None:
        """Name the process in every line."""
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Write the object; a traceback is one of its fields."""
        line: dict[str, Any] = {
            "time": f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": hide(record.getMessage()),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["traceback"] = hide(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def hide(text: str) -> str:
    """Take out whatever looks like a token."""
    return _SECRETS.sub(lambda found: f"{found[1]} ***" if found[1] else "***", text)


def _add_fields(record: logging.LogRecord) -> bool:
    for name, value in _about.get().items():
        if not hasattr(record, name):
            setattr(record, name, value)
    return True
