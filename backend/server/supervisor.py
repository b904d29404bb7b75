"""A supervisor of processes: starts them in order, restarts those that die, stops all of them together.

Each child has its own process group, so that Ctrl-C in the terminal reaches the supervisor alone, which then stops the
children in order. No child outlives a supervisor that was killed: on Linux the kernel kills the children, elsewhere
they watch their parent.
"""

import contextlib
import ctypes
import logging
import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

logger = logging.getLogger(__name__)

POLL_S = 0.1
START_S = 60.0  # limit for a child to become ready
GRACE_S = 10.0  # between SIGTERM and SIGKILL
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before the first, second, ... restart in a row
STEADY_S = 60.0  # a child that ran this long has recovered: its next death counts as the first
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PARENT_ENV = "PT4AL_SUPERVISOR_PID"
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LINUX = platform.system() == "Linux"


@dataclass(frozen=True)
class Child:
    """A command to run, and how to tell that it is ready, so that the next child may start.

    ``fix`` is called when the child does not start; it returns whether to try once more. Children with ``stops_last``
    stop after all others.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    niceness: int = 0
    ready: Callable[[], bool] = lambda: True
    fix: Callable[[], bool] = lambda: False
    stops_last: bool = False


class Supervisor:
    """Runs children until a stop signal."""

    def __init__(self, children: Sequence[Child], grace_s: float = GRACE_S) -> None:
        """Take the children in the order of their start."""
        self._runs = [_Run(child) for child in children]
        self._grace_s = grace_s
        self._stop_signals = 0

    def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Run all children until SIGINT, SIGTERM or SIGHUP; return the exit code: 0, or 1 if a first start failed.

        ``on_ready`` is called once, when every child is ready. A second signal kills the children at once.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            if not all(self._first_start(run) for run in self._runs):
                return 0 if self._stop_signals else 1
            on_ready()
            while not self._stop_signals:
                for run in self._runs:
                    run.revive()
                time.sleep(POLL_S)
            return 0
        finally:
            self._stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1

    def _first_start(self, run: "_Run") -> bool:
        for attempt in (1, 2):
            run.start()
            deadline = time.monotonic() + START_S
            while run.alive() and time.monotonic() < deadline and not self._stop_signals:
                if run.child.ready():
                    return True
                time.sleep(POLL_S)
            if self._stop_signals:
                return False
            run.kill()
            logger.error("%s did not start", run.child.name)
            if attempt == 2 or not run.child.fix():
                return False
        return False

    def _stop(self) -> None:
        logger.info("stopping")
        for last in (False, True):
            group = [run for run in self._runs if run.child.stops_last == last]
            for run in group:
                run.signal(signal.SIGTERM)
            deadline = time.monotonic() + self._grace_s
            while any(run.alive() for run in group):
                if time.monotonic() > deadline or self._stop_signals > 1:
                    break
                time.sleep(POLL_S)
            for run in group:
                run.kill()
        logger.info("stopped")


class _Run:
    """One child and its process."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_at: float | None = None
        self._deaths = 0

    def start(self) -> None:
        niceness = self.child.niceness
        parent = os.getpid()

        def before_exec() -> None:
            die_with_parent(parent)
            if niceness:
                os.nice(niceness)

        self._process = subprocess.Popen(
            self.child.command,
            env={**os.environ, **self.child.env, PARENT_ENV: str(parent)},
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=before_exec,
        )
        self._started = time.monotonic()
        self._start_at = None
        logger.info("%s started (process %d)", self.child.name, self._process.pid)

    def revive(self) -> None:
        """Start the process again if it died and its backoff time is over."""
        if self._process is None or self.alive():
            return
        now = time.monotonic()
        if self._start_at is None:
            self._deaths = 1 if now - self._started > STEADY_S else self._deaths + 1
            wait = BACKOFF_S[min(self._deaths, len(BACKOFF_S)) - 1]
            self._start_at = now + wait
            self.kill()  # the remaining processes of its group
            logger.warning(
                "%s %s; starting it again in %g s", self.child.name, _describe_exit(self._process.returncode), wait
            )
        elif now >= self._start_at:
            self.start()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process and its group."""
        if self._process is None:
            return
        if self._process.poll() is None:
            logger.warning("%s does not stop; killing it", self.child.name)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; called between fork and exec, and in forked workers.

    On other systems than Linux it does nothing: see ``watch_parent``.
    """
    if LINUX:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)


def is_supervised() -> bool:
    """Return whether a supervisor has started this process."""
    return os.environ.get(PARENT_ENV) == str(os.getppid())


def watch_parent() -> None:
    """End this process soon after its supervisor, on systems where the kernel does not."""
    parent = int(os.environ.get(PARENT_ENV, "0"))
    if LINUX or os.getppid() != parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


_libc = ctypes.CDLL(None)  # loaded at import: nothing may be loaded between fork and exec
