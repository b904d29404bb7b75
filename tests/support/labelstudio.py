"""A real Label Studio for tests, started from its own environment."""

import importlib.util
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import requests

from backend.demo.empty_database import QUIET, give, prepare

ROOT = Path(__file__).parents[2]
EMAIL = "admin@example.com"
PASSWORD = "label-studio-1"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
START_S = 120

ENVIRONMENT = {
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    # Models and webhooks on loopback addresses are refused without these two.
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
    # Nothing is asked of or sent to the outside.
    **QUIET,
}


class LabelStudioServer:
    """One server process over one data folder; may be stopped and started again."""

    def __init__(self, port: int, data_dir: Path, **env: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.email, self.password, self.token = EMAIL, PASSWORD, TOKEN
        self.data_dir = data_dir
        self.log = data_dir / "label-studio.log"
        self._port = port
        self.env = env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; raises RuntimeError with the end of its log if it does not."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # of a server in a place where nothing can be kept
            prepare(binary())
        give(binary(), self.data_dir)
        command = [
            *(str(binary()), "start", "--no-browser", "--port", str(self._port)),
            *("--username", self.email, "--password", self.password, "--user-token", self.token),
        ]
        env = {**os.environ, **ENVIRONMENT, "LABEL_STUDIO_BASE_DATA_DIR": str(self.data_dir), **self.env}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.data_dir
            )
        deadline = time.monotonic() + START_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"Label Studio did not start ({self.log}):\n{tail}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it and whatever it started; its log stays."""
        process, self._process = self._process, None
        if process is None:
            return
        for how, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(process.pid, how)
                process.wait(patience)
                return
            except ProcessLookupError:
                process.wait()
                return
            except subprocess.TimeoutExpired:
                continue

    def _healthy(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False


def start_label_studio(port: int, data_dir: Path, **env: str) -> LabelStudioServer:
    """Start a server with these additions to its environment."""
    server = LabelStudioServer(port, data_dir, **env)
    server.start()
    return server


def binary() -> Path:
    """Where the server's command is: LABEL_STUDIO_BIN, else the environment that `make setup` prepares."""
    path = Path(os.environ.get("LABEL_STUDIO_BIN") or ROOT / ".venv-labelstudio" / "bin" / "label-studio")
    if not path.is_file():
        raise FileNotFoundError(f"Label Studio is not at {path}: run make setup, or set LABEL_STUDIO_BIN")
    return path


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_codec() -> ModuleType:
    """Return the server's own code for run lengths of brushes, which needs numpy and Pillow alone."""
    path = next(binary().parents[1].glob("lib/*/site-packages/label_studio_sdk/converter/brush.py"))
    spec = importlib.util.spec_from_file_location("brush", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
