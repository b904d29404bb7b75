"""What people are told of a step that failed."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.errors import StoreUnavailable
from backend.loop.advance import error_message
from backend.status.status import read_status
from backend.store import Store
from model.errors import ModelError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_in_a_sentence(number: int) -> None:
    said = error_message(OSError(number, os.strerror(number)))
    assert said == "the disk is full (DATA_DIR): make room, and the work goes on by itself"


def test_a_file_that_cannot_be_written_for_want_of_room_is_named() -> None:
    # A device of Linux on which there never is any.
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as file:  # noqa: PT011
        file.write(b"x")
    caught.value.filename = "/data/round-001.pt"
    assert error_message(caught.value).startswith("the disk is full (/data/round-001.pt): make room")


def test_a_full_disk_is_told_although_nothing_can_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    project, _ = store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=None,
        label_config="<View/>",
        extra_params={},
    )  # fmt: skip
    assert "disk" not in str(read_status(store, project).error)
    full = SimpleNamespace(f_bfree=1, f_bavail=1, f_frsize=4096, f_blocks=9999)
    monkeypatch.setattr("os.statvfs", lambda path: full)
    status = read_status(store, project)
    assert status.error == f"the disk is full ({tmp_path}): make room, and the work goes on by itself"
    assert status.stage == "failed"
    store.projects.set(project.id, error="The token is refused")
    assert str(read_status(store, store.projects.get(project.id)).error).endswith("by itself. The token is refused")
    full.f_blocks = full.f_bfree = full.f_bavail = 0  # a file system that does not tell
    assert "disk" not in str(read_status(store, project).error)
    store.close()


@pytest.mark.parametrize("error", [StoreUnavailable("the database is locked"), ModelError("there are no weights")])
def test_our_own_errors_are_said_as_they_are(error: Exception) -> None:
    assert error_message(error) == str(error)


def test_anything_else_is_said_to_be_our_error() -> None:
    assert "(KeyError: 'x')" in error_message(KeyError("x"))
