"""What tests look at in processes."""

from collections.abc import Iterable

import psutil


def gone(processes: Iterable[psutil.Process]) -> bool:
    return [process for process in processes if alive(process)] == []


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
