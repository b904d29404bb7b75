"""The process tree on its own, with children that only sleep."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.e2e_harness import wait_for
from support.processes import gone

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0  # of a machine that does other things; children that nobody ends live five times as long
SLEEP = "import time; time.sleep(300)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
)
LOGS_ITS_END = (
    "import pathlib, signal, sys, time\n"
    "def end(*_): time.sleep(0.2); pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2]); sys.exit()\n"
    "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(300)"
)


class Tree:
    """A supervisor in a process of its own."""

    def __init__(self, children: str, grace_s: float = 5, linux: bool = True) -> None:
        code = (
            "import logging, sys\n"
            f"import backend.server.supervisor; backend.server.supervisor.LINUX &= {linux}\n"
            "from backend.server.supervisor import Child, Supervisor\n"
            "logging.basicConfig(level='INFO', format='%(message)s', stream=sys.stdout)\n"
            f"python = [sys.executable, '-c']\nsys.exit(Supervisor([{children}], grace_s={grace_s}).run())"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.said: list[str] = []

    def read_until(self, text: str, times: int = 1) -> None:
        assert self.process.stdout is not None
        while "".join(self.said).count(text) < times:
            line = self.process.stdout.readline()
            assert line, f"ended after: {self.said}"
            self.said.append(line)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def tree(request: pytest.FixtureRequest) -> Iterator[Tree]:
    started = Tree(*request.param)
    yield started
    started.process.kill()
    started.process.wait()
    assert started.process.stdout is not None
    started.process.stdout.close()


@pytest.mark.parametrize(
    "tree", [(f"Child('a', [*python, {SLEEP!r}]), Child('b', [*python, {SLEEP!r}])",)], indirect=True
)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_supervisor_stops_all_children_and_ends_with_zero(tree: Tree, how: signal.Signals) -> None:
    tree.read_until("b started")
    children = tree.children()
    assert len(children) == 2
    tree.process.send_signal(how)
    assert tree.process.wait(PATIENCE_S) == 0
    assert gone(children)


@pytest.mark.parametrize("tree", [(f"Child('a', [*python, {SLEEP!r}])",)], indirect=True)
def test_supervisor_starts_again_what_was_killed(tree: Tree) -> None:
    tree.read_until("a started")
    first = tree.children()[0]
    first.kill()
    tree.read_until("a was killed by SIGKILL; starting it again in 0.5 s")
    wait_for("a new process", lambda: any(child.pid != first.pid for child in tree.children()), PATIENCE_S)


@pytest.mark.parametrize("tree", [("Child('a', [*python, 'raise SystemExit(3)'])",)], indirect=True)
def test_supervisor_waits_longer_before_each_restart_in_a_row(tree: Tree) -> None:
    tree.read_until("in 2 s")
    waits = [line.split(" in ")[1].strip() for line in tree.said if "ended with code 3" in line]
    assert waits == ["0.5 s", "1 s", "2 s"]


@pytest.mark.parametrize("tree", [(f"Child('a', [*python, {STUBBORN!r}])", 0.5)], indirect=True)
def test_supervisor_kills_what_does_not_stop(tree: Tree) -> None:
    tree.read_until("deaf")
    children = tree.children()
    started = time.monotonic()
    tree.process.terminate()
    assert tree.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - started >= 0.5
    assert gone(children)


@pytest.mark.parametrize("tree", [(f"Child('a', [*python, {STUBBORN!r}])", 300)], indirect=True)
def test_second_signal_kills_at_once(tree: Tree) -> None:
    tree.read_until("deaf")
    children = tree.children()
    tree.process.send_signal(signal.SIGINT)
    tree.read_until("stopping")
    tree.process.send_signal(signal.SIGINT)
    assert tree.process.wait(PATIENCE_S) == 0
    assert gone(children)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere children watch their parent themselves")
@pytest.mark.parametrize("tree", [(f"Child('a', [*python, {STUBBORN!r}])",)], indirect=True)
def test_children_die_with_a_supervisor_that_is_killed(tree: Tree) -> None:
    tree.read_until("deaf")
    children = tree.children()
    tree.process.kill()
    wait_for("the children's end", lambda: gone(children), PATIENCE_S)


def test_children_watch_their_supervisor_where_the_kernel_does_not() -> None:
    watching = (
        "import backend.server.supervisor as s, time; s.LINUX = False; s.watch_parent(); print('watching', flush=True);"
        "time.sleep(300)"
    )
    tree = Tree(f"Child('a', [*python, {watching!r}])", linux=False)
    tree.read_until("watching")
    children = tree.children()
    tree.process.kill()
    tree.process.communicate()
    wait_for("the children's end", lambda: gone(children), PATIENCE_S)


def test_child_that_others_need_stops_last(tmp_path: Path) -> None:
    log = tmp_path / "ends"
    tree = Tree(
        f"Child('base', [*python, {LOGS_ITS_END!r}, {str(log)!r}, 'base '], stops_last=True),"
        f"Child('user', [*python, {LOGS_ITS_END!r}, {str(log)!r}, 'user '])"
    )
    tree.read_until("up", times=2)  # either may write into the other's line
    tree.process.terminate()
    tree.process.communicate(timeout=PATIENCE_S)
    assert log.read_text() == "user base "


def test_supervisor_gives_up_when_a_first_start_fails() -> None:
    tree = Tree("Child('a', [*python, 'raise SystemExit(3)'], ready=lambda: False)")
    said, _ = tree.process.communicate(timeout=PATIENCE_S)
    assert tree.process.returncode == 1
    assert "a did not start" in said


def test_supervisor_tries_once_more_after_mending(tmp_path: Path) -> None:
    flag = tmp_path / "fixed"
    code = f"import pathlib, time; assert pathlib.Path({str(flag)!r}).exists(); time.sleep(300)"
    tree = Tree(
        f"Child('a', [*python, {code!r}], ready=lambda: __import__('pathlib').Path({str(flag)!r}).exists(),"
        f" fix=lambda: __import__('pathlib').Path({str(flag)!r}).touch() is None),"
        f"Child('b', [*python, {SLEEP!r}])"
    )
    tree.read_until("b started")
    assert "a did not start\n" in tree.said
    tree.process.terminate()
    tree.process.communicate(timeout=PATIENCE_S)
    assert tree.process.returncode == 0
