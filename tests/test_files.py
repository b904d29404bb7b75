import os
import time
from pathlib import Path

from backend.files import GONE, GONE_S, LEFTOVER_AGE_S, Files, drop_if_long_gone, drop_leftovers, found_again


def test_leftovers_of_killed_processes_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    folder = Files.of(tmp_path, 1).folder
    old, new, whole = folder / ".round-001.pt.77.tmp", folder / ".round-002.pt.78.tmp", folder / "round-000.pt"
    for path in (old, new, whole):
        path.write_bytes(b"x")
    now = old.stat().st_mtime
    os.utime(old, (now - 2 * LEFTOVER_AGE_S,) * 2)
    assert drop_leftovers(tmp_path, now) == 1
    assert sorted(folder.iterdir()) == sorted([new, whole])


def test_files_of_a_deleted_project_go_after_a_week_in_which_it_never_came_back(tmp_path: Path) -> None:
    folder, other = Files.of(tmp_path, 1).folder, Files.of(tmp_path, 2).folder
    for path in (folder / "bank-16" / "images.bin", other / "round-000.pt"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert not drop_if_long_gone(tmp_path, 1, time.time() + 2 * GONE_S), "it is missed for the first time"
    missed = (folder / GONE).stat().st_mtime
    assert not drop_if_long_gone(tmp_path, 1, missed + GONE_S - 1)
    found_again(tmp_path, 1)
    assert not drop_if_long_gone(tmp_path, 1, missed + GONE_S + 1), "it was there meanwhile: the week begins anew"
    assert (folder / "bank-16" / "images.bin").exists()
    assert drop_if_long_gone(tmp_path, 1, time.time() + GONE_S + 1)
    assert not folder.exists()
    assert not drop_if_long_gone(tmp_path, 1, time.time() + GONE_S + 1), "nothing is left, and nothing made anew"
    assert not folder.exists()
    assert (other / "round-000.pt").exists()
