"""The two servers of the demo, each with a log in its folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from backend.demo.empty_database import QUIET, give
from backend.errors import ConfigError, ProjectError
from backend.server.own_processes import ask
from backend.server.supervisor import die_with_parent

ROOT = Path(__file__).parents[2]
EMAIL = "demo@example.com"
PASSWORD = "pt4al-demo"  # of a server of this demo alone
START_S = 180.0  # Label Studio's first start builds its database where none was prepared
STOP_S = 30.0
POLL_S = 0.2
HEALTH_S = 2.0
# What the servers get of our environment: Label Studio takes even HOST, PORT and USERNAME for settings of its own.
PASSED_ON = {
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "SSL_CERT_FILE",
    "DEVICE",
    "LOG_LEVEL",
    "OMP_NUM_THREADS",
}


class Server:
    """A child process that answers HTTP."""

    def __init__(self, name: str, url: str, log: Path, process: "subprocess.Popen[bytes]") -> None:
        """Take a process that was just started."""
        self.name, self.url, self.log, self._process = name, url, log, process

    def wait(self, tick: Callable[[], None]) -> None:
        """Wait until it answers, calling ``tick`` meanwhile.

        Raises:
            ProjectError: it ended, or takes too long; with the end of its log.
        """
        deadline = time.monotonic() + START_S
        while not self._healthy():
            self.check()
            if time.monotonic() > deadline:
                raise ProjectError(f"{self.name} does not answer; the end of {self.log}:\n{self._tail()}")
            tick()
            time.sleep(POLL_S)

    def check(self) -> None:
        """See that it still runs.

        Raises:
            ProjectError: it ended; with the end of its log.
        """
        code = self._process.poll()
        if code is not None:
            raise ProjectError(f"{self.name} ended with code {code}; the end of {self.log}:\n{self._tail()}")

    def stop(self) -> None:
        """End it and whatever it started."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _healthy(self) -> bool:
        try:
            ask(f"{self.url}/health", HEALTH_S)
        except OSError:
            return False
        return True

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def label_studio_program() -> str:
    """Return the server's program: of ``make setup``, else one on the PATH.

    Raises:
        ConfigError: there is none.
    """
    prepared = ROOT / ".venv-labelstudio" / "bin" / "label-studio"
    program = str(prepared) if prepared.exists() else shutil.which("label-studio")
    if program is None:
        raise ConfigError(f"Label Studio is not installed in {prepared.parents[1]}: run 'make setup'")
    return program


@contextmanager
def label_studio(folder: Path, port: int) -> Iterator[Server]:
    """Run a Label Studio over an empty folder, with one account."""
    env = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio"),
        "LABEL_STUDIO_USERNAME": EMAIL,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # The backend has a private address.
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        **QUIET,
    }
    program = label_studio_program()
    give(Path(program), folder / "label-studio")
    command = [program, "start", "--no-browser", "--port", str(port)]
    with _running("Label Studio", f"http://localhost:{port}", command, env, folder / "label-studio.log") as server:
        yield server


@contextmanager
def backend(folder: Path, port: int, **more: str) -> Iterator[Server]:
    """Run ``python -m backend serve`` over an empty folder, told its port and what ``more`` adds to its environment."""
    env = {"DATA_DIR": str(folder / "backend"), "PORT": str(port), **more}
    command = [sys.executable, "-m", "backend", "serve"]
    with _running("The backend", f"http://localhost:{port}", command, env, folder / "backend.log") as server:
        yield server


@contextmanager
def _running(name: str, url: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[Server]:
    parent = os.getpid()
    kept = {key: value for key, value in os.environ.items() if key in PASSED_ON}
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env={**kept, **env},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent),
        )
    server = Server(name, url, log, process)
    try:
        yield server
    finally:
        server.stop()
