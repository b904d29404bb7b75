"""Killed between bank, features and store, or within one of their writes, a project ends as if nobody had killed it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_encoder import OTHER, FakeEncoder, use_fake_encoders
from support.kill import Killed
from support.loop_project import SIDE, WITH_ENCODER, LoopProject
from support.offline_project import ignore

from backend.loop.advance import gather_facts, take_step
from backend.loop.context import open_project
from backend.loop.decide import JOB_OF_STEP, Step, next_step
from backend.loop.step_table import JOBS
from backend.loop.steps.pull import read_changes
from model.data import rows as rows_module
from model.data.bank import ImageBank
from model.data.decoding import decode
from model.data.features import FeatureBank
from model.encoders.registry import DEFAULT, SIDES

IMAGES, LARGE = 8, SIDES[0]
TAKEN = {
    Step.SYNC, Step.NOTE_POOL, Step.EMBED, Step.TWINS, Step.RESTART, Step.PRETEXT, Step.SPLIT, Step.PLAN, Step.POST,
}  # fmt: skip
LEFT_OUT = {Step.MAINTAIN, Step.SWITCH, Step.RECORD}


class Killer:
    """Lets ``writes`` of store, bank and features pass, then none; of features the first half of one more."""

    def __init__(self, loop: LoopProject, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = writes
        ours = loop.store.of(loop.id)
        for subject in (loop.store.projects, ours.tasks, ours.rounds):
            self._guard(subject)
        commit, write_runs = ImageBank._commit, rows_module._write_runs

        def guarded_commit(bank: ImageBank, count: int) -> None:
            self.pass_by()
            commit(bank, count)

        def guarded_runs(path: Path, runs: list[tuple[int, bytes]]) -> None:
            if self.left <= 0:
                write_runs(path, [(offset, content[: len(content) // 2]) for offset, content in runs])
            self.pass_by()
            write_runs(path, runs)

        monkeypatch.setattr(ImageBank, "_commit", guarded_commit)
        monkeypatch.setattr(rows_module, "_write_runs", guarded_runs)

    def pass_by(self) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1

    def _guard(self, subject: Any) -> None:
        begin = subject._write

        def write() -> AbstractContextManager[Any]:
            self.pass_by()
            return begin()

        subject._write = write


def settle(loop: LoopProject, before: Step = Step.WAIT) -> list[Step]:
    """Take the steps that are missing until all images have losses and batches, or those ``before`` one."""
    taken: list[Step] = []
    while len(taken) < 40:
        project = open_project(loop.context, loop.id)
        observed = read_changes(project.store, project.studio)
        facts = gather_facts(loop.context, loop.id, observed)
        step = next_step(facts, LEFT_OUT if facts.planned else {*LEFT_OUT, Step.POST})
        if step not in TAKEN - {before}:
            break
        taken.append(step)
        if step == Step.POST:
            project.store.rounds.go_live(0)
        elif step in JOB_OF_STEP:
            JOBS[JOB_OF_STEP[step]].call(loop.context, open_project(loop.context, loop.id), ignore)
        else:
            take_step(loop.context, loop.id, step, facts)
    return taken


def check(loop: LoopProject, name: str = DEFAULT, factor: float = 1.0) -> None:
    """Compare what bank and features have of each task with its upload."""
    project = open_project(loop.context, loop.id)
    view = project.store.tasks.pool(project.store.tasks.pool_size())
    indices = np.flatnonzero(view.task_id >= 0)
    assert sorted(view.task_id[indices]) == sorted(loop.truth)
    files = [
        loop.server.files[str(loop.server.projects[loop.studio.id].tasks[task].data["image"])]
        for task in view.task_id[indices].tolist()
    ]
    bank = ImageBank.open(project.files.bank(SIDE)).gather(indices)
    np.testing.assert_array_equal(bank, np.stack([decode(file, SIDE) for file in files]))
    features = FeatureBank.open(project.files.features(f"{name.replace(':', '-')}-{LARGE}"))
    assert features.knows(indices).all()
    wanted = FakeEncoder(name, LARGE, factor).embed(np.stack([decode(file, LARGE) for file in files]))
    np.testing.assert_array_equal(features.gather(indices), wanted)
    assert len(loop.queue(0)) == 4


def state(loop: LoopProject) -> dict[str, Any]:
    """Return what has come of the pool, by pool index."""
    view, row = loop.store.of(loop.id).tasks.pool(IMAGES), loop.row
    return {
        "loss": view.loss.tolist(),
        "batch": view.batch.tolist(),
        "asked": loop.queue(0),
        "keys": (row.features_key, row.pretext_key, row.split_key, row.pretext_images),
    }


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in range(100))


@pytest.fixture(autouse=True)
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything done in two parts, by encoders that cost nothing."""
    use_fake_encoders(monkeypatch)
    for name in (
        "backend.loop.steps.shards.COMMIT_IMAGES",
        "backend.loop.steps.pretext.SCORED",
        "model.pretext.on_encoder.CHUNK",
    ):
        monkeypatch.setattr(name, IMAGES // 2)


def begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> LoopProject:
    folder.mkdir()
    loop = LoopProject(folder, monkeypatch)
    loop.add(IMAGES)
    loop.connect(**WITH_ENCODER)
    return loop


def kills(
    begin: Callable[[], LoopProject],
    monkeypatch: pytest.MonkeyPatch,
    finish: Callable[[LoopProject], None],
    before: Step,
    end: Step = Step.WAIT,
) -> int:
    """Kill a project at each of its writes ``before`` a step, and let it go on to the ``end``; count the kills."""
    for writes in range(100):
        with monkeypatch.context() as patch:
            loop = begin()
            killer = Killer(loop, writes, patch)
            try:
                settle(loop, before)
            except Killed:
                killer.left = 10_000
                settle(loop, end)
                finish(loop)
            else:
                return writes
            finally:
                loop.store.close()
    raise AssertionError("there is no end to its writes")


def test_a_kill_at_any_write_of_the_first_start_leaves_every_task_its_own_features(
    folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kills(lambda: begun(next(folders), monkeypatch), monkeypatch, check, Step.PRETEXT, Step.PRETEXT) > 15


@pytest.mark.parametrize(
    ("change", "step"),
    [("another encoder", Step.EMBED), ("features lost", Step.EMBED), ("no losses yet", Step.PRETEXT)],
)
def test_a_kill_at_any_write_of_what_follows_changes_nothing_in_the_end(
    folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch, change: str, step: Step
) -> None:
    name, factor = (OTHER, 2.0) if change == "another encoder" else (DEFAULT, 1.0)

    settled = begun(next(folders), monkeypatch)
    settle(settled, step if step == Step.PRETEXT else Step.WAIT)
    settled.label(settled.queue(0)[:1])  # so that the round is not planned again
    settled.store.close()

    def begin() -> LoopProject:
        loop = settled.copied(next(folders), monkeypatch)
        if change == "another encoder":
            loop.setup(**WITH_ENCODER, encoder=OTHER)
        elif change == "features lost":
            shutil.rmtree(open_project(loop.context, loop.id).files.features(f"{DEFAULT}-{LARGE}"))
        return loop

    calm = begin()
    steps = settle(calm)
    assert step in steps
    check(calm, name, factor)
    wanted = state(calm)
    assert np.isfinite(wanted["loss"]).all()
    assert np.bincount(wanted["batch"]).tolist() == [2] * 4
    calm.store.close()

    def finish(loop: LoopProject) -> None:
        check(loop, name, factor)
        assert state(loop) == wanted
        assert len(list(open_project(loop.context, loop.id).files.folder.glob("features-*"))) == 1

    # What RESTART writes is the same without an encoder.
    assert kills(begin, monkeypatch, finish, Step.RESTART) > 5
