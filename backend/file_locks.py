"""Locks on files, which the kernel releases when the process that holds them ends."""

from pathlib import Path

from filelock import FileLock, Timeout


def try_lock(path: Path) -> FileLock | None:
    """Return the lock on ``path``, held until its ``release`` or the end of the process; None if it is held elsewhere.

    Raises:
        OSError: the file cannot be written, or its file system has no locks.
    """
    # The fallback for file systems without flock is a file that a killed process would leave behind.
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def wait_for_lock(path: Path) -> FileLock:
    """Return the lock on ``path`` as a context, which waits until no other process holds it; raises as ``try_lock``."""
    return FileLock(path, thread_local=False, fallback_to_soft=False)
