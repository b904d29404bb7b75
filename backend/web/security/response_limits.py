"""A limit on large answers sent at once: each holds a thread until its client has received it."""

import threading

from flask import Response, jsonify

LARGE = 200 * 1024  # bytes; smaller answers fit into the send buffer of the socket
SENDING = 6  # large answers of a process at once: the other threads answer /health, /setup and /webhook meanwhile

_sending = threading.BoundedSemaphore(SENDING)


def limit(response: Response) -> Response:
    """Take one of the places for large answers until this one is sent; if none is free, answer 503 with Retry-After."""
    size = response.content_length if response.is_streamed else response.calculate_content_length()
    if size is not None and size <= LARGE:
        return response
    if not _sending.acquire(blocking=False):
        response.close()
        refusal = jsonify({"error": "too many large answers are being sent: try again in a few seconds"})
        refusal.status_code, refusal.headers["Retry-After"] = 503, "5"
        return refusal
    response.direct_passthrough = False  # a file that is passed through does not report when it is sent
    response.call_on_close(_sending.release)
    return response
