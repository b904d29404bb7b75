"""``python -m backend serve`` as a person starts it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
import requests
from support.e2e_harness import REPOSITORY, Backend, wait_for
from support.labelstudio import free_port
from support.processes import gone

from backend.config import Settings
from backend.errors import QueueUnavailable
from backend.queueing.queues import Queueing
from backend.server.gunicorn import warn_if_open


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """One for the tests that leave it running."""
    started = Backend(tmp_path_factory.mktemp("serve") / "data", free_port())
    started.start()
    yield started
    started.stop()


def tree(backend: Backend) -> dict[str, psutil.Process]:
    """Name the supervisor's children."""
    assert backend.process is not None
    named = {}
    for child in psutil.Process(backend.process.pid).children():
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:  # it ends just now
            continue
        for name in ("redis-server", "web", "advance", "io", "train"):
            if line.endswith(name) or f" {name} " in line or name in line.split(" ")[0]:
                named[name] = child
    return named


def everything(backend: Backend) -> list[psutil.Process]:
    assert backend.process is not None
    return psutil.Process(backend.process.pid).children(recursive=True)


def refuse(*arguments: str, **env: str) -> str:
    """Run a command that must end with code 2; give what it says."""
    clean = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "DATABASE_URL"}}
    ended = subprocess.run(
        [sys.executable, "-m", "backend", *arguments], cwd=REPOSITORY, env={**clean, **env}, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_serve_survives_a_kill_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    backend = Backend(tmp_path / "data", free_port())
    try:
        backend.start()
        children = everything(backend)
        assert backend.process is not None
        backend.process.kill()
        backend.process.wait()
        wait_for("the end of what a killed serve has started", lambda: gone(children))

        backend.start()  # on the same port and data, at once
        children = everything(backend)
        assert set(tree(backend)) == {"redis-server", "web", "advance", "io", "train"}
        assert f"ready: connect {backend.url}\n" in backend.log.read_text()
        assert backend.stop() == 0
    finally:
        backend.end()
    assert gone(children)
    assert not (backend.data_dir / "redis" / "url").exists()
    assert "Traceback" not in backend.log.read_text()


def test_serve_starts_where_the_environment_names_a_proxy_that_nobody_can_reach(tmp_path: Path) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    backend = Backend(tmp_path / "data", free_port(), http_proxy=proxy, HTTPS_PROXY=proxy, all_proxy=proxy)
    try:
        backend.start()
        assert backend.stop() == 0
    finally:
        backend.end()


def test_what_serve_keeps_is_for_its_user_alone(backend: Backend) -> None:
    kept = [backend.data_dir, *backend.data_dir.rglob("*")]
    assert {"pt4al.sqlite3", "redis", "installation"} <= {path.name for path in kept}
    # A link is as open as what it leads to.
    assert [str(path) for path in kept if not path.is_symlink() and path.lstat().st_mode & 0o077] == []


def test_serve_says_that_everybody_may_come_in(backend: Backend) -> None:
    assert "set BASIC_AUTH_USER and BASIC_AUTH_PASS" in backend.log.read_text()


@pytest.mark.parametrize(
    ("host", "password", "open_to_all"),
    [("0.0.0.0", None, True), ("::", None, True), ("127.0.0.1", None, False), ("0.0.0.0", "secret", False)],
)
def test_nothing_is_said_where_a_password_is_asked_or_only_this_machine_is_listened_to(
    caplog: pytest.LogCaptureFixture, host: str, password: str | None, open_to_all: bool
) -> None:
    warn_if_open(Settings(basic_auth_user=password and "me", basic_auth_pass=password), host)
    assert ("BASIC_AUTH_USER" in caplog.text) == open_to_all


@pytest.mark.parametrize("name", ["redis-server", "web", "advance", "train"])
def test_serve_starts_again_what_dies(backend: Backend, name: str) -> None:
    victim = tree(backend)[name]
    victim.kill()
    wait_for("another process", lambda: tree(backend).get(name, victim).pid != victim.pid)
    wait_for("/health", backend.healthy)
    assert f"{name.removesuffix('-server')} was killed by SIGKILL" in backend.log.read_text()


def test_workers_take_jobs_again_after_redis_died(backend: Backend) -> None:
    url = (backend.data_dir / "redis" / "url").read_text().strip()
    tree(backend)["redis-server"].kill()
    queueing = Queueing(url)

    def wake() -> bool:
        try:
            return queueing.wake(1)
        except QueueUnavailable:
            return False

    wait_for("Redis to take a job", wake)
    with redis.Redis.from_url(url) as client:
        wait_for("a worker to take it", lambda: not client.exists("pt4al:wake:1"))


def test_web_and_short_workers_never_load_torch(backend: Backend) -> None:
    def loads_torch(process: psutil.Process) -> bool:
        return any("libtorch" in mapped.path for mapped in process.memory_maps())

    requests.get(f"{backend.url}/api/projects", timeout=60)
    named = tree(backend)
    light = [named["web"], *named["web"].children(), named["advance"], named["io"]]
    assert len(light) >= 4
    assert [process for process in light if loads_torch(process)] == []


def test_second_serve_on_the_same_data_is_refused(backend: Backend) -> None:
    said = refuse("serve", "--port", str(free_port()), "--data-dir", str(backend.data_dir))
    assert f"another 'serve' runs on {backend.data_dir}" in said
    assert backend.healthy()


def test_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refuse("serve", "--port", str(port), "--data-dir", str(tmp_path))
    assert f"cannot listen on 0.0.0.0:{port} (Address already in use)" in said
    assert "PORT" in said


@pytest.mark.parametrize("command", ["serve", "web", "worker"])
@pytest.mark.parametrize(
    ("name", "value"), [("REDIS_URL", "localhost:6399"), ("REDIS_URL", "redis://h:abc/0"), ("DATABASE_URL", "foo")]
)
def test_an_address_that_is_none_is_said_once(tmp_path: Path, command: str, name: str, value: str) -> None:
    said = refuse(command, "--data-dir", str(tmp_path), PORT=str(free_port()), **{name: value})
    assert said.startswith(f"pt4al: {name}: ")
    assert said.count("\n") == 1


def test_wrong_setting_is_said(tmp_path: Path) -> None:
    assert "PORT" in refuse("serve", "--port", "99999", "--data-dir", str(tmp_path))


def test_data_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot write into DATA_DIR" in refuse("serve", "--data-dir", str(tmp_path / "file"), PORT=str(free_port()))


def pids_of_workers(client: redis.Redis) -> list[bytes]:
    return [client.hget(key, "pid") for key in client.smembers("rq:workers")]


def test_lone_worker_finds_the_private_redis_of_its_data_folder(backend: Backend) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "backend", "worker", "--queues", "io", "--data-dir", str(backend.data_dir)],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name != "REDIS_URL"},
    )
    url = (backend.data_dir / "redis" / "url").read_text().strip()
    try:
        with redis.Redis.from_url(url) as client:
            wait_for("its registration", lambda: str(worker.pid).encode() in pids_of_workers(client))
    finally:
        worker.terminate()
        worker.wait(60)


def test_lone_worker_without_redis_is_refused(tmp_path: Path) -> None:
    assert "no Redis: REDIS_URL is not set" in refuse("worker", "--queues", "io", "--data-dir", str(tmp_path))


def test_missing_second_step_of_the_installation_is_said(tmp_path: Path) -> None:
    # Python takes a module of which None is known for one that is not installed.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['label_studio_ml'] = None")
    said = refuse("serve", "--data-dir", str(tmp_path), PYTHONPATH=str(tmp_path), PORT=str(free_port()))
    assert "pip install --no-deps -r requirements-nodeps.txt" in said


def test_label_studio_ml_start_serves_it(tmp_path: Path) -> None:
    port = free_port()
    binaries = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    env.pop("REDIS_URL", None)
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(
            [binaries / "label-studio-ml", "start", ".", "-p", str(port), "--host", "127.0.0.1", "--log-level", "INFO",
             "--model-dir", str(tmp_path / "data"), "--check"],
            cwd=REPOSITORY, env=env, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for("/health", lambda: answers(f"http://127.0.0.1:{port}/health"))
        assert (tmp_path / "data" / "pt4al.sqlite3").exists()
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(60)
    assert "the application can be made" in (tmp_path / "log").read_text()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False
