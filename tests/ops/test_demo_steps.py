"""What the demo prints where there is no terminal: each step when it is taken, not all of them at the end."""

import subprocess
import sys

from support.e2e_harness import REPOSITORY

SCRIPT = """
from rich.console import Console
from backend.demo.steps import show_steps
with show_steps(Console()) as progress:
    first = progress.add_task("Upload [3] images", total=3)
    print("after the first", flush=True)
    progress.update(first, completed=1)
    progress.advance(first, 2)
    second = progress.add_task("Connect", total=1.0)
    progress.update(second, description="Train", completed=0.5)
    progress.update(second, completed=0.7)
    progress.update(second, completed=1.0, description="First queue")
    input()
"""


def test_a_line_a_step_is_there_as_soon_as_it_is_taken() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # All of it comes while the process waits: readline would wait for ever for what is kept back.
        said = [process.stdout.readline().rstrip() for _ in range(6)]
        assert process.poll() is None
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(20)
    assert said == [
        "Upload [3] images", "after the first", "Upload [3] images: done", "Connect", "Train", "First queue: done",
    ]  # fmt: skip
