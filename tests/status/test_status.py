"""What people are told of a step that failed."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.errors import StoreUnavailable
from backend.loop.advance import error_message
from backend.status.status import read_status
from backend.status.summary import as_json, as_line
from backend.store import Answer, AskRole, Store
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange
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


CONFIG = """<View><Image name="image" value="$image"/><Choices name="shape" toName="image">
<Choice value="round"/><Choice value="square"/></Choices></View>"""


@pytest.fixture
def measured_twice(tmp_path: Path):
    """A project with two models that were compared, as far as rounds tell; labels are the test's."""
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    project, _ = store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=None,
        label_config=CONFIG, extra_params={"labels_per_round": 10},
    )  # fmt: skip
    of = store.of(project.id)
    of.tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in range(1, 101)])
    of.tasks.images_fetched({i: i - 1 for i in range(1, 101)})
    for number in range(2):
        of.rounds.plan(number, f"r{number}", [Ask(number * 10 + i, 0.1, AskRole.QUERY) for i in range(1, 11)])
        of.rounds.go_live(number)
        change = {"holdout_change": 0, "holdout_change_squares": 0, "agreement": 1.0} if number else {}
        of.rounds.set(
            number, has_model=True, classes=["round", "square"], labels=10 + 10 * number, holdout_size=30,
            holdout_quality=30, holdout_squares=30, state="closed", problem="single_label", **change,
        )  # fmt: skip
    yield store, project, of
    store.close()


def label(of, labels: dict[int, str]) -> None:
    of.tasks.apply([TaskChange(i, "x", None, Answer.LABELED, target) for i, target in labels.items()])


def test_nothing_is_forecast_from_one_class(measured_twice) -> None:
    store, project, of = measured_twice
    label(of, dict.fromkeys(range(1, 21), "round"))
    status = read_status(store, project)
    assert (status.forecast, status.next_round_text) == (None, None)
    assert as_json(status)["outlook"] is None
    assert "Go on" not in as_line(status)
    assert "points" not in as_line(status)


def test_two_classes_are_enough_for_a_forecast(measured_twice) -> None:
    store, project, of = measured_twice
    label(of, dict.fromkeys(range(1, 20), "round") | {20: "square"})
    status = read_status(store, project)
    assert status.forecast is not None
    assert "would add about" in as_line(status)


def test_a_class_that_came_after_the_newest_model_is_not_in_it(measured_twice) -> None:
    store, project, of = measured_twice
    label(of, dict.fromkeys(range(1, 21), "round"))
    of.rounds.plan(2, "r2", [Ask(21, 0.1, AskRole.QUERY)])
    of.rounds.go_live(2)
    label(of, {21: "square"})
    assert read_status(store, project).forecast is None
