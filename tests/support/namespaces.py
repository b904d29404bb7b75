"""Commands that run others in a mount namespace of their own: read-only, or on a small disk.

Nothing of the machine is changed, and no right is needed where users may have namespaces.
"""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SEALED = r"""
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
for place in $(awk '{print $2}' /proc/self/mounts | sort -u); do
  case "$place" in "$1"|/proc*|/sys*|/dev*) ;; *) mount -o remount,bind,ro "$place" ;; esac
done
if touch "$0" 2>/dev/null; then echo "$0 can be written"; exit 1; fi
shift
exec "$@"
"""
SMALL = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o "size=$0" tmpfs "$1"
shift
exec "$@"
"""


def sealed(folder: Path) -> list[str]:
    """Have every mount read-only but ``folder``, which stands for the volumes, and those of the kernel."""
    probe = folder.with_name(f"{folder.name}-probe")
    probe.touch()
    return _allowed([*_namespace(SEALED), str(probe), str(folder)])


def on_small_disk(folder: Path, size: str) -> list[str]:
    """Put a disk of ``size`` ("64m") into the place of ``folder``; it goes with the last process that sees it."""
    return _allowed([*_namespace(SMALL), size, str(folder)])


def seen_by(process: int, folder: Path) -> Path:
    """Return the path by which everybody sees a folder as that process does."""
    return Path(f"/proc/{process}/root{folder}")


def fill(path: Path) -> int:
    """Write a file until its disk is full to the last block; give how many bytes it took."""
    written = 0
    with path.open("wb", buffering=0) as file:
        for block in (2**20, 4096, 1):
            try:
                while True:
                    written += file.write(b"x" * block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return written


def _namespace(script: str) -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]


def _allowed(command: list[str]) -> list[str]:
    """Skip the test where the machine has no such namespaces."""
    tried = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False)
    if not tried or tried.returncode:
        pytest.skip(f"mount namespaces are not to be had here (user {os.getuid()})")
    return command
