import os
from pathlib import Path

from backend.project_files import LEFTOVER_AGE_S, Files, drop_leftovers


def test_leftovers_of_killed_processes_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    folder = Files.of(tmp_path, 1).folder
    old, new, whole = folder / ".round-001.pt.77.tmp", folder / ".round-002.pt.78.tmp", folder / "round-000.pt"
    for path in (old, new, whole):
        path.write_bytes(b"x")
    now = old.stat().st_mtime
    os.utime(old, (now - 2 * LEFTOVER_AGE_S,) * 2)
    assert drop_leftovers(tmp_path, now) == 1
    assert sorted(folder.iterdir()) == sorted([new, whole])


def test_what_lies_by_the_pool_indices_of_a_lost_bank_goes_and_weights_stay(tmp_path: Path) -> None:
    files = Files.of(tmp_path, 1)
    kept = [files.model(0), files.pretext("k")]
    lost = [files.output(0, "probs"), files.trained(0), files.pretext_embeddings("k")]
    for path in kept + lost:
        path.write_bytes(b"x")
    files.drop_outputs()
    assert sorted(files.folder.iterdir()) == sorted(kept)
