"""Killed at any write of the store, the steps that follow from the losses end as if nobody had killed them."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop.test_strategies import short  # noqa: F401 - a fixture
from support.kill import Killed
from support.offline_project import IMAGES, PARAMS, Project, ignore

from backend.loop.advance import gather_facts
from backend.loop.decide import Step, next_step
from backend.loop.facts import JobKind
from backend.loop.steps.split import split_pool
from model.data.bank import ImageBank
from model.pretext.run import train_pretext


def split_a_part(project: Project) -> None:
    split_pool(
        project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True
    )  # others wait after each part


TAKE = {
    Step.RESTART: lambda project: project.step(Step.RESTART),
    Step.NOTE_POOL: lambda project: project.step(Step.NOTE_POOL),
    Step.PRETEXT: lambda project: project.job(JobKind.PRETEXT),
    Step.SPLIT: split_a_part,
    Step.SPLIT_LARGE: split_a_part,
    Step.PLAN: lambda project: project.step(Step.PLAN),
}


class Killer:
    """Lets ``writes`` transactions of a store pass, then none."""

    def __init__(self, project: Project, writes: int) -> None:
        self.left = writes
        ours = project.store.of(project.key)
        for subject in (project.store.projects, ours.tasks, ours.rounds):
            self._guard(subject)

    def _guard(self, subject: Any) -> None:
        begin = subject._write

        def write() -> AbstractContextManager[Any]:
            if self.left <= 0:
                raise Killed
            self.left -= 1
            return begin()

        subject._write = write


def settle(project: Project) -> tuple[list[Step], dict[str, Any]]:
    """Take the steps that are missing, until the round is planned; give them, and what has come of the pool."""
    taken = []
    while len(taken) < 20:
        step = next_step(gather_facts(project.context, project.key, None), {Step.POST, Step.SWITCH})
        if step not in TAKE:
            break
        taken.append(step)
        TAKE[step](project)
    pool = project.store.of(project.key).tasks.pool(IMAGES)
    row = project.store.projects.get(project.key)
    return taken, {
        "loss": pool.loss.tolist(),
        "batch": pool.batch.tolist(),
        "asked": project.asked(0),
        "keys": (row.pretext_key, row.split_key, row.pretext_images),
    }


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in range(100))


@pytest.fixture(autouse=True)
def train_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have a training that was run once give its weights at once: they are the same every time."""

    def remembered(task: str, bank: ImageBank, *, out: Path, seed: int, **more: Any) -> None:
        known = tmp_path / f"weights-{seed}.pt"
        if not known.exists():
            train_pretext(task, bank, out=known, seed=seed, **more)
        shutil.copy(known, out)

    monkeypatch.setattr("model.pretext.run.train_pretext", remembered)
    monkeypatch.setattr("backend.store.task_losses.PART", 40)  # losses and batches take two writes each
    monkeypatch.setattr("backend.store.task_losses.PAUSE_S", 0.0)
    monkeypatch.setattr("backend.loop.steps.split.PART", 30)  # and batches three turns


@pytest.mark.parametrize("changed", [{}, {"rounds": 4}, {"seed": 7}], ids=["first start", "batches", "losses"])
def test_a_kill_at_any_write_changes_nothing_in_the_end(folders: Iterator[Path], changed: dict[str, int]) -> None:
    def begun() -> Project:
        folder = next(folders)
        folder.mkdir()
        project = Project(folder)
        if changed:
            settle(project)
            project.store.projects.set(project.key, extra_params={**PARAMS, **changed})
        return project

    calm = begun()
    steps, wanted = settle(calm)
    assert steps[-1] == Step.PLAN
    calm.store.close()
    assert np.isfinite(wanted["loss"]).all()
    for writes in range(40):
        project = begun()
        killer = Killer(project, writes)
        try:
            settle(project)
        except Killed:
            killer.left = 10_000
            steps, found = settle(project)
            assert found == wanted, f"killed after {writes} writes"
            assert steps.count(Step.PRETEXT) <= 1
            project.store.close()
        else:
            project.store.close()
            break
    assert writes >= 5
