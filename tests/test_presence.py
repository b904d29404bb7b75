"""Who works here, against a real Redis: what living and dead processes leave there."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import ConfigError, QueueUnavailable
from backend.queueing import presence
from backend.queueing.presence import Presence, Process, is_served, of_earlier_releases, present, release
from backend.queueing.queues import ADVANCE, IO, TRAIN, Queueing

STAY = """
import sys
from pathlib import Path
from backend.queueing.presence import Presence, Process
from backend.queueing.queues import Queueing
entered = Presence(Queueing(sys.argv[1]), Process.here("worker", ["io"], database="d", folder="f", data_dir=Path(".")))
entered.enter()
print(entered.process.name, flush=True)
sys.stdin.read()
entered.leave()
"""


def worker(*queues: str, database: str = "d") -> Process:
    return Process.here("worker", queues, database=database, folder="f", data_dir=Path("data"))


def said(queueing: Queueing, process: Process, age_s: float = 0.0) -> None:
    """Have Redis hold what a process of any machine said some seconds ago."""
    text = json.dumps({**process.__dict__, "at": time.time() - age_s, "of_a_later_release": 1})
    queueing.connection.hset("pt4al:processes", process.name, text)


def test_a_process_is_present_from_entering_to_leaving(queueing: Queueing) -> None:
    entered = Presence(queueing, worker(ADVANCE, IO))
    assert entered.enter() == []
    (one,) = present(queueing)
    assert (one.name, one.queues, one.release) == (entered.process.name, (ADVANCE, IO), release())
    assert [is_served([one], queue) for queue in (ADVANCE, IO, TRAIN)] == [True, True, False]
    entered.leave()
    assert present(queueing) == []


def test_of_a_process_that_was_killed_the_next_one_hears_at_once(queueing: Queueing, private_redis: str) -> None:
    command = [sys.executable, "-c", STAY, private_redis]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        name = killed.stdout.readline().strip()
        assert [one.name for one in present(queueing)] == [name]
        killed.kill()
    assert present(queueing) == []
    entered = Presence(queueing, worker(IO))
    assert entered.enter() == [name]
    assert queueing.connection.hkeys("pt4al:processes") == [entered.process.name.encode()]
    entered.leave()


def test_a_process_of_another_machine_is_dead_when_it_is_silent(queueing: Queueing) -> None:
    elsewhere = replace(worker(IO), name="beta:worker-io-1", host="beta", machine="beta", pid=2**22 + 1)
    said(queueing, elsewhere)
    assert [one.host for one in present(queueing)] == ["beta"], "its process id says nothing here"
    said(queueing, elsewhere, age_s=60)
    assert present(queueing) == []
    entered = Presence(queueing, worker(IO))
    assert entered.enter() == [elsewhere.name]
    entered.leave()


def test_what_nobody_can_read_is_passed_over(queueing: Queueing) -> None:
    queueing.connection.hset("pt4al:processes", mapping={"a": "no JSON", "b": "{}", "c": "[]", "d": '{"at": 1}'})
    assert present(queueing) == []


def test_two_installations_on_one_redis_are_refused(queueing: Queueing) -> None:
    said(queueing, replace(worker(IO, database="other"), host="beta"))
    with pytest.raises(ConfigError, match="the worker on beta uses this Redis with another database: give all"):
        Presence(queueing, worker(IO)).enter()
    assert len(present(queueing)) == 1, "the one that was refused says nothing"


def test_a_clock_that_is_wrong_is_measured(queueing: Queueing, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fast:
        time = staticmethod(lambda: time.time() + 120)

    monkeypatch.setattr(presence, "time", Fast)
    entered = Presence(queueing, worker(IO))
    entered.enter()
    (one,) = present(queueing)
    entered.leave()
    assert one.ahead_s == pytest.approx(120, abs=2)


def test_workers_of_releases_that_did_not_say_so_are_found_among_those_of_rq(queueing: Queueing) -> None:
    for name, queues in (("aa", "pt4al:io"), ("bb", "default"), ("beta:worker-io-1-aa", "pt4al:io")):
        queueing.connection.sadd("rq:workers", f"rq:worker:{name}")
        queueing.connection.hset(f"rq:worker:{name}", mapping={"hostname": f"host of {name}", "queues": queues})
    queueing.connection.sadd("rq:workers", "rq:worker:gone")
    assert of_earlier_releases(queueing) == ["host of aa"]


def test_without_redis_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailable):
        present(Queueing(f"unix://{tmp_path}/nothing.sock"))
