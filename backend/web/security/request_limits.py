"""How much a body may hold, asked before it is read: what is parsed takes up to thirty times its size in memory."""

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
    """Set the limit of the route; a body above it is refused as soon as it is asked for, or its length is known.

    Raises:
        RequestEntityTooLarge: the length says so already.
    """
    most = LARGEST_OF.get(request.path, LARGEST)
    request.max_content_length = most
    if (request.content_length or 0) > most:
        raise RequestEntityTooLarge(f"the body is larger than {most // MIB} MiB")


def check_values() -> None:
    """Refuse JSON that would fill the memory: few bytes can be a great many objects.

    Commas and brackets in texts are counted, too; nothing that Label Studio sends comes near the limit.

    Raises:
        RequestEntityTooLarge: there are too many.
    """
    if request.is_json:
        body = request.get_data()
        if sum(body.count(mark) for mark in (b",", b"{", b"[")) > VALUES:
            raise RequestEntityTooLarge(f"the body has more than {VALUES:,} values")
