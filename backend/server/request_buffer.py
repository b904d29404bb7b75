"""A buffer for a request that tells when it is complete, for the event loop of ``gunicorn_worker``."""

import re
from enum import Enum

HEAD_BYTES = 32 * 1024  # limit of request line and headers; those of Label Studio and browsers take 1 or 2 KiB
KEPT_BYTES = 128 * 1024  # limit of a request that is buffered; nearly all of Label Studio's are smaller

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)")
_UNKNOWN_LENGTH = re.compile(rb"(?i)\r\n(?:transfer-encoding|expect):")


class Progress(Enum):
    """What the event loop has to do with the received bytes."""

    PART = "wait for more"
    COMPLETE = "answer it"
    LARGE = "a thread reads the rest: the body is too large for the buffer, or its length is unknown"
    REFUSED = "refuse it: the head is too long"


class Intake:
    """The received bytes of one request.

    gunicorn's parser decides what they mean. If this class finds another end of the request, the parser waits for
    bytes that do not come, for a limited time.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.received = bytearray()
        self._size: int | None = None  # bytes of head and body, once the head is complete
        self._unknown_length = False

    def add(self, data: bytes) -> Progress:
        """Add received bytes; return what to do next."""
        seen = max(len(self.received) - len(_END) + 1, 0)
        self.received += data
        if self._size is None:
            end = self.received.find(_END, seen)
            if max(end, 0) > HEAD_BYTES or (end < 0 and len(self.received) > HEAD_BYTES):
                return Progress.REFUSED
            if end < 0:
                return Progress.PART
            self._read_head(bytes(self.received[: end + len(_END)]))
        if self._unknown_length or (self._size or 0) > KEPT_BYTES:
            return Progress.LARGE
        return Progress.COMPLETE if len(self.received) >= (self._size or 0) else Progress.PART

    def _read_head(self, head: bytes) -> None:
        length = _LENGTH.search(head)
        self._size = len(head) + (int(length[1]) if length else 0)
        self._unknown_length = _UNKNOWN_LENGTH.search(head) is not None
