"""How much of a request has come, found out without a thread: what the event loop of ``web_worker`` asks."""

import re
from enum import Enum

HEAD_BYTES = 32 * 1024  # of request line and headers; Label Studio's and browsers' take 1 or 2 KiB
KEPT_BYTES = 128 * 1024  # of a request that is waited for without a thread: all of Label Studio's but the rarest

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)")
_OPEN = re.compile(rb"(?i)\r\n(?:transfer-encoding|expect):")


class Progress(Enum):
    """What can be done with what has come."""

    PART = "wait for more"
    WHOLE = "answer it: nothing has to be waited for"
    LARGE = "the body is too large to be kept, or does not say its length: whoever answers reads the rest"
    REFUSED = "the head is too long"


class Intake:
    """The bytes of a request, until it is handed over.

    gunicorn's parser has the last word on what they mean. All that a misunderstanding here could do is that it waits
    for bytes, which it does for a limited time.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.received = bytearray()
        self._whole: int | None = None  # its size, once the head is there
        self._open = False

    def add(self, data: bytes) -> Progress:
        """Take what has come; say how far that is."""
        seen = max(len(self.received) - len(_END) + 1, 0)
        self.received += data
        if self._whole is None:
            end = self.received.find(_END, seen)
            if max(end, 0) > HEAD_BYTES or (end < 0 and len(self.received) > HEAD_BYTES):
                return Progress.REFUSED
            if end < 0:
                return Progress.PART
            self._read_head(bytes(self.received[: end + len(_END)]))
        if self._open or (self._whole or 0) > KEPT_BYTES:
            return Progress.LARGE
        return Progress.WHOLE if len(self.received) >= (self._whole or 0) else Progress.PART

    def _read_head(self, head: bytes) -> None:
        length = _LENGTH.search(head)
        self._whole = len(head) + (int(length[1]) if length else 0)
        self._open = _OPEN.search(head) is not None
