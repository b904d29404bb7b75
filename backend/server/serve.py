"""``serve``: Redis, web and workers in one process tree."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backend.config import Settings
from backend.errors import ConfigError
from backend.file_locks import try_lock
from backend.queueing.queues import QUEUES, TRAIN
from backend.server.own_processes import ask
from backend.server.preflight import check_addresses, check_installation, check_packages, check_port
from backend.server.progress import bars
from backend.server.redis_server import PrivateRedis
from backend.server.supervisor import Child, Supervisor

logger = logging.getLogger(__name__)

TRAIN_NICENESS = 5  # training gets the processor time that the web leaves
HEALTH_S = 1.0


def serve(settings: Settings, host: str) -> int:
    """Run Redis (unless REDIS_URL is set), web and workers until told to stop; return the exit code.

    Raises:
        ConfigError: the port is taken, the data folder is in use, or a program is missing.
    """
    check_packages()
    check_addresses(settings)
    check_port(host, settings.port)
    if settings.on_servers:  # which others may work with as well, on any machine
        check_installation(settings)
        return _run([], settings, host, {})
    with only_one(settings.data_dir):
        check_installation(settings)
        if settings.redis_url:
            return _run([], settings, host, {})
        redis = PrivateRedis(settings.data_dir)
        command = redis.prepare()
        try:
            child = Child("redis", command, ready=redis.ready, fix=redis.fix, stops_last=True)
            return _run([child], settings, host, {"REDIS_URL": redis.url})
        finally:
            redis.clean_up()


def work(settings: Settings) -> int:
    """Run a worker for each queue until told to stop; return the exit code."""
    check_packages()
    check_addresses(settings)
    check_installation(settings)
    return Supervisor(_workers(_environment(settings))).run()


def _run(before: list[Child], settings: Settings, host: str, env: Mapping[str, str]) -> int:
    env = {**_environment(settings), **env}
    url = f"http://localhost:{settings.port}"
    web = Child("web", _command("web", "--host", host), env, ready=lambda: _healthy(host, settings.port))
    logger.info("data in %s", settings.data_dir.resolve())
    with bars(settings):
        return Supervisor([*before, *_workers(env), web]).run(lambda: logger.info("ready: connect %s", url))


def _workers(env: Mapping[str, str]) -> list[Child]:
    return [
        Child(
            queue,
            _command("worker", "--queues", queue),
            {**env, **(_train_environment() if queue == TRAIN else {})},
            niceness=TRAIN_NICENESS if queue == TRAIN else 0,
        )
        for queue in QUEUES
    ]


def _train_environment() -> dict[str, str]:
    """Return the number of threads for training: all cores but one, unless OMP_NUM_THREADS is set.

    The threads of one operation wait for the slowest. Where one of them shares its core with Label Studio, all wait:
    small networks then train ten times slower on two threads than on one.
    """
    threads = os.environ.get("OMP_NUM_THREADS") or str(max((os.cpu_count() or 1) - 1, 1))
    return {"OMP_NUM_THREADS": threads}


def _environment(settings: Settings) -> dict[str, str]:
    """Return the settings that the command line may have changed."""
    return {
        "DATA_DIR": str(settings.data_dir.resolve()),
        "PORT": str(settings.port),
        "LOG_LEVEL": settings.log_level,
    }


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "backend", *arguments]


def _healthy(host: str, port: int) -> bool:
    address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    try:
        ask(f"http://{address}:{port}/health", HEALTH_S)
    except OSError:
        return False
    return True


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder's lock: two process trees on one folder would write the same files.

    Raises:
        ConfigError: the folder cannot be written, or another ``serve`` holds its lock.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = try_lock(data_dir / "serve.lock")
    except OSError as error:
        raise ConfigError(f"cannot write into DATA_DIR {data_dir.resolve()}: {error.strerror}") from None
    if lock is None:
        raise ConfigError(f"another 'serve' runs on {data_dir.resolve()}: stop it, or set DATA_DIR to another folder")
    try:
        yield
    finally:
        lock.release()
