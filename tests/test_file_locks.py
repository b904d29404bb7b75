"""Locks that end with their process."""

import subprocess
import sys
from pathlib import Path

import pytest

from backend.file_locks import try_lock

HOLD = """
import sys
from pathlib import Path
from backend.file_locks import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_by_one_and_free_after_its_release(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    lock = try_lock(path)
    assert lock is not None
    assert try_lock(path) is None
    lock.release()
    again = try_lock(path)
    assert again is not None
    again.release()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert try_lock(path) is None
        holder.kill()
    again = try_lock(path)
    assert again is not None
    again.release()
    assert path.exists()  # a lock file stays, so that all processes always lock the same one


def test_a_file_that_cannot_be_written_is_an_error_and_not_a_holder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        try_lock(tmp_path / "file" / "a.lock")
