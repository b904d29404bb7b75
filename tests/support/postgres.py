"""A real PostgreSQL for tests: the one that is installed, over a folder of its own, which it does not wait for."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from support.labelstudio import ENVIRONMENT, binary, free_port

from backend.server.supervisor import die_with_parent

START_S = 60
MIGRATE_S = 600  # Label Studio makes its tables in some hundred migrations
USER, PASSWORD = "tester", "s3cret"
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
}


def programs() -> Path | None:
    """Where initdb and postgres are, of the newest version; None where there are none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += Path("/usr/lib/postgresql").glob("*/bin")
    folders = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    return max(
        folders, key=lambda folder: float(folder.parent.name) if folder.parent.name.isdigit() else 0, default=None
    )


class Postgres:
    """One server. ``USER`` needs its password over TCP, and none on the socket."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.port = free_port()
        self._folder, self._binaries = folder, binaries
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        # PostgreSQL does not run as root.
        names = {entry.pw_name for entry in pwd.getpwall()}
        self._user = None if os.getuid() else ("postgres" if "postgres" in names else "nobody")
        if self._user is not None:
            shutil.chown(folder, self._user)
        options = [
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", USER, f"--pwfile={folder / 'password'}", *options],
            check=True, capture_output=True, user=self._user, cwd=folder,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {**FAST, "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self._folder}
        parent = os.getpid()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._binaries / "postgres", "-D", self._folder / "data"),
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                ],
                stdout=log, stderr=log, user=self._user, cwd=self._folder, preexec_fn=lambda: die_with_parent(parent),
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it, and with it all connections."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_S)
            self._process = None

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the database's owner; return its rows."""
        with psycopg.connect(self._dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def clear(self, database: str, statement: str) -> None:
        """Run a statement that takes away what a test has left, after ending its connections."""
        others = "pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        self.run(f"SELECT pg_terminate_backend(pid) FROM {others}; {statement}", database)

    def label_studio(self, folder: Path) -> dict[str, str]:
        """Make Label Studio's tables in a new database; what the environment of a server on it has to say."""
        database = {
            **{"DJANGO_DB": "default", "POSTGRE_HOST": "127.0.0.1", "POSTGRE_PORT": str(self.port)},
            **{"POSTGRE_NAME": self.create(), "POSTGRE_USER": USER, "POSTGRE_PASSWORD": PASSWORD},
        }
        # Any command makes the tables first; this one then looks for a user and ends.
        subprocess.run(
            [binary(), "user", "--username", "nobody@example.com"],
            env={**os.environ, **ENVIRONMENT, **database, "LABEL_STUDIO_BASE_DATA_DIR": str(folder)},
            cwd=folder, check=True, capture_output=True, timeout=MIGRATE_S,
        )  # fmt: skip
        return database

    def url(self, database: str) -> str:
        """The address of a database by the socket, as DATABASE_URL takes it."""
        return f"postgresql://{USER}@/{database}?host={self._folder}&port={self.port}"

    def tcp_url(self, database: str, password: str = PASSWORD) -> str:
        """The address of a database over TCP."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """Make a database that stays as long as the server; its name."""
        self._made += 1
        name = f"test{self._made}"
        self.run(f"CREATE DATABASE {name}")
        return name

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new database; its name."""
        name = self.create()
        try:
            yield name
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def _dsn(self, database: str) -> str:
        return f"host={self._folder} port={self.port} user={USER} dbname={database}"


@contextmanager
def running_postgres(binaries: Path) -> Iterator[Postgres]:
    """A server of its own, in a folder that its user can reach; pytest's are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = None
    try:
        server = Postgres(folder, binaries)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop(signal.SIGQUIT)  # at once: nobody reads what it has written
        shutil.rmtree(folder)
