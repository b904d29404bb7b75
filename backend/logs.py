"""Logging: readable lines, or one JSON object per line, each with its project, round and step.

``log_context`` sets these fields for all lines that are written within its block.
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
# Our own code logs no tokens; a library may put one into the text of an error.
_SECRETS = re.compile(r"\b(Token|Bearer|Basic) [\w.~+/=-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+")

_context: ContextVar[dict[str, Any]] = ContextVar("context", default={})  # noqa: B039 - never changed in place


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Set fields of all log lines in the block: ``project`` (Label Studio's id), ``round``, ``step``."""
    token = _context.set({**_context.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _context.reset(token)


def configure(process: str, settings: Settings) -> None:
    """Set up logging for this process: our own from LOG_LEVEL on, of libraries warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_fields)
    handler.setFormatter(JsonLines(process) if settings.log_format == "json" else TextLines(process))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("backend", "model", "pt4al"):
        logging.getLogger(package).setLevel(settings.log_level)


CLEAR_LINE = "\r\x1b[K"  # move to the beginning of the terminal's line and erase it


class TextLines(logging.Formatter):
    """``14:03:22 advance project=3 round=1 step=post: 22 images sent``."""

    def __init__(self, process: str) -> None:
        """Put the name ``process`` into every line."""
        super().__init__(f"%(asctime)s {process:<7} %(context)s%(message)s", "%H:%M:%S")
        self._before = CLEAR_LINE if sys.stderr.isatty() else ""  # the line may hold bars of ``server.progress``

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the traceback if there is one."""
        fields = [f"{name}={value}" for name in FIELDS if (value := getattr(record, name, None)) is not None]
        record.context = " ".join(fields) + ": " if fields else ""
        return self._before + hide(super().format(record))


class JsonLines(logging.Formatter):
    """``{"time": "2025-01-31T14:03:22.123Z", "level": "INFO", "process": "advance", "project": 3, ...}``."""

    converter = time.gmtime  # type: ignore[assignment] # the stub knows only one of its forms

    def __init__(self, process: str) -> None:
        """Put the name ``process`` into every line."""
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as JSON; a traceback is one of its fields."""
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
    """Return the text with everything that looks like a token replaced by ``***``."""
    return _SECRETS.sub(lambda match: f"{match[1]} ***" if match[1] else "***", text)


def _add_fields(record: logging.LogRecord) -> bool:
    for name, value in _context.get().items():
        if not hasattr(record, name):
            setattr(record, name, value)
    return True
