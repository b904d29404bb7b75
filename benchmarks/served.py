"""A project of photos on a real Label Studio, its images served over HTTP, seen by who labels and who watches."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError

from backend.demo.annotator import Annotator
from backend.server.own_processes import ask
from backend.store import Store
from benchmarks.images import PHOTO_CLASSES, class_of_photo, photo

IMPORTED = 5_000  # tasks an import
PATIENCE_S = 1200.0
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="class" toName="image">'
    + "".join(f'<Choice value="{name}"/>' for name in PHOTO_CLASSES)
    + "</Choices></View>"
)


class ServedProject:
    """A project of photos; ``store`` is the backend's, to be looked into."""

    def __init__(self, person: Annotator, backend: str, store: Store, title: str, images: int, address: str) -> None:
        """Make the project and import its tasks; connect nothing yet."""
        self.person, self.backend, self.store, self.images = person, backend, store, images
        self.id = person.create_project(title, CONFIG)
        for start in range(0, images, IMPORTED):
            numbers = range(start, min(start + IMPORTED, images))
            person.import_tasks(self.id, [{"data": {"image": f"{address}/{number}.jpg"}} for number in numbers])

    @property
    def key(self) -> int:
        """The project's id in the backend's store.

        Raises:
            LookupError: the backend does not know it.
        """
        row = self.store.projects.find(self.id)
        if row is None:
            raise LookupError(f"project {self.id} is not in the backend's store")
        return row.id

    def status(self) -> dict[str, Any]:
        """Return the backend's status; empty while it does not know the project."""
        try:
            found: dict[str, Any] = json.loads(ask(f"{self.backend}/api/projects/{self.id}", 30))
        except HTTPError:
            return {}
        return found

    def wait(self, test: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Return the first status that passes a test.

        Raises:
            TimeoutError: none does within PATIENCE_S.
        """
        deadline = time.perf_counter() + PATIENCE_S
        while time.perf_counter() < deadline:
            status = self.status()
            if status and test(status):
                return status
            time.sleep(0.2)
        raise TimeoutError(f"waited {PATIENCE_S:.0f} s; last seen: {self.status()}")

    def first_queue(self) -> float:
        """Connect; return the seconds until Label Studio serves the first queue."""
        started = time.perf_counter()
        self.person.connect_backend(self.id, self.backend)
        self.wait(lambda status: status["queue"]["model_version"] == "pt4al-r000")
        return time.perf_counter() - started

    def live_version(self) -> str:
        """Return the version that Label Studio serves."""
        return str(self.person.call("GET", f"/api/projects/{self.id}/", include="id,model_version")["model_version"])


def result_of(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the right answer for a task's photo, as an annotation's result."""
    label = class_of_photo(int(data["image"].rpartition("/")[2].partition(".")[0]))
    return [{"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": [label]}}]


@contextmanager
def photo_server(made: int | None = None) -> Iterator[str]:
    """Serve photos over HTTP; yield the address, under which photo 7 is ``/7.jpg``.

    made: photos that are made beforehand and served in turn, so that making them takes no time later; None: all differ.
    """
    bodies = [photo(number) for number in range(made or 0)]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = int(self.path[1:-4])
            body = bodies[number % len(bodies)] if bodies else photo(number)
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
