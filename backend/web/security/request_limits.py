"""Limits of a request's body, checked before it is parsed: parsed JSON takes up to thirty times its size in memory."""

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

MIB = 1024 * 1024
LARGEST = 4 * MIB  # a labeling interface with 20,000 classes takes 1 MiB
LARGEST_OF = {
    "/predict": 32 * MIB,  # Label Studio sends all tasks that were selected at once: 50,000 with 600 bytes each
    "/webhook": 16 * MIB,  # it names up to 5,000 tasks, with their data
    "/train": 16 * MIB,
}
VALUES = 2_000_000  # of 50,000 tasks, Label Studio sends 1,200,000


def limit() -> None:
    """Set the body limit of the route; a longer body is refused when its length is known, or when it is read.

    Raises:
        RequestEntityTooLarge: the request gives a length above the limit.
    """
    max_bytes = LARGEST_OF.get(request.path, LARGEST)
    request.max_content_length = max_bytes
    if (request.content_length or 0) > max_bytes:
        raise RequestEntityTooLarge(f"the body is larger than {max_bytes // MIB} MiB")


def check_values() -> None:
    """Refuse JSON with so many values that it would fill the memory.

    Commas and brackets within texts are counted as well. What Label Studio sends stays far below the limit.

    Raises:
        RequestEntityTooLarge: there are more than ``VALUES``.
    """
    if request.is_json:
        body = request.get_data()
        if sum(body.count(mark) for mark in (b",", b"{", b"[")) > VALUES:
            raise RequestEntityTooLarge(f"the body has more than {VALUES:,} values")
