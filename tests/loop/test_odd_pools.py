"""Projects that leave little to work with, with an encoder: few images, tiny ones, one class alone, no room."""

import errno
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fake_encoder import use_fake_encoders
from support.loop_project import CLASSES, WITH_ENCODER, LoopProject, answer_of, shorten_training

from backend.loop.context import open_project
from backend.status.status import read_status
from backend.store import RoundState
from model.data import rows as rows_module
from model.data.features import FeatureBank

DEFAULT_SIZE = {**WITH_ENCODER, "labels_per_round": None}


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project before it is connected, without images; nothing is exported."""
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = LoopProject(tmp_path, monkeypatch)
    yield made
    made.store.close()


def test_a_pool_of_thirty_images_is_asked_to_its_end(loop: LoopProject) -> None:
    loop.add(30)
    loop.connect(**DEFAULT_SIZE)
    loop.run()
    assert len(loop.queue(0)) == 13  # twelve, and one of the holdout
    for _ in range(5):
        loop.answer()
        loop.run()
    status = read_status(loop.store, loop.row)
    assert (status.done, status.error, status.tasks.labeled) == (True, None, 30)
    assert loop.round.state == RoundState.CLOSED
    assert all(loop.stored(task)[1] == loop.truth[task] for task in loop.truth)


def test_images_of_one_pixel_are_embedded_as_any(loop: LoopProject) -> None:
    """Smaller than a patch of any encoder: images are scaled to its side, whatever they had."""
    tasks = loop.add(20)
    for number, (reference, size) in enumerate(
        zip(list(loop.server.files), [(1, 1), (1, 9), (3, 2)] * 7, strict=False)
    ):
        file = BytesIO()
        Image.new("RGB", size, (10 * number, 90, 90)).save(file, "PNG")
        loop.server.files[reference] = file.getvalue()
    loop.connect(**WITH_ENCODER)
    loop.run()
    project = open_project(loop.context, loop.id)
    bank = FeatureBank.open(project.files.features(str(loop.row.features_key)))
    assert bank.known.sum() == len(tasks)
    assert np.isfinite(bank.gather(np.arange(len(tasks)))).all()
    loop.answer(4)
    loop.run()
    assert (loop.round.number, read_status(loop.store, loop.row).error) == (1, None)


def test_labels_that_are_all_alike_are_learned_and_said(loop: LoopProject) -> None:
    loop.add(60)
    loop.connect(**WITH_ENCODER, labels_per_round=12)
    loop.run()
    for number in range(3):  # more than the learners are compared from
        assert loop.round.number == number
        for task in loop.queue():
            loop.person.annotate(task, answer_of(CLASSES[0]))
        loop.run()
    status = read_status(loop.store, loop.row)
    assert status.error is None
    assert "All labels so far are the same: there is nothing to tell apart yet." in str(status.notice)
    assert status.next_round_text is None
    for number, task in enumerate(loop.queue()):
        loop.person.annotate(task, answer_of(CLASSES[number < 2]))
    loop.run()
    assert "All labels" not in str(read_status(loop.store, loop.row).notice)


def test_a_disk_that_is_full_while_features_are_written_is_said_and_nothing_is_lost(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.add(40)
    loop.connect(**WITH_ENCODER)
    write = rows_module._write_runs

    def full(path: Path, runs: list[tuple[int, bytes]]) -> None:
        if path.name == "features.bin":
            write(path, [(offset, content[: len(content) // 2]) for offset, content in runs])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, runs)

    with monkeypatch.context() as patch:
        patch.setattr(rows_module, "_write_runs", full)
        loop.run()
        said = str(read_status(loop.store, loop.row).error)
        assert "sync failed 1 time(s) and will be tried again: the disk is full" in said
        assert "features.bin): make room, and the work goes on by itself" in said
        assert loop.store.of(loop.id).rounds.current() is None
    loop.store.of(loop.id).jobs.retry_now()
    loop.run()
    assert (loop.round.state, read_status(loop.store, loop.row).error) == (RoundState.LIVE, None)
    counts = loop.store.of(loop.id).tasks.counts(0)
    assert (counts.ok, counts.unscored) == (40, 0)
    project = open_project(loop.context, loop.id)
    view = project.store.tasks.pool(project.store.tasks.pool_size())
    bank = FeatureBank.open(project.files.features(str(loop.row.features_key)))
    assert bank.knows(np.flatnonzero(view.task_id >= 0)).all()
