"""What Label Studio is told of losses and batches, and in which pieces."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.kill import Killed
from support.offline_project import ignore

from backend.loop.steps.record import record, rounded
from backend.queueing.queues import IO, TimeSlice
from backend.store import Answer, ProjectStore, Store
from backend.store.tasks import TaskChange

TASKS, BATCHES = 40, 4
LOSSES = np.random.default_rng(0).lognormal(-1.2, 1.0, TASKS).astype(np.float32)
CHOICES = '<Choices name="c" toName="i"><Choice value="a"/><Choice value="b"/></Choices>'
CONFIG = f'<View><Image name="i" value="$image"/>{CHOICES}</View>'


class Studio:
    """What Label Studio was told of each task, call by call; who makes the last call that is left is killed in it."""

    def __init__(self) -> None:
        self.tasks = self
        self.told: dict[int, dict[str, float]] = {}
        self.calls: list[tuple[str, float, int]] = []
        self.left, self.lost = 10_000, 0

    def set_field(self, task_ids: Sequence[int], name: str, value: float) -> None:
        self.calls.append((name, value, len(task_ids)))
        for task_id in task_ids:
            self.told.setdefault(task_id, {})[name] = value
        self.left -= 1
        if not self.left:
            self.lost += len(task_ids)
            raise Killed


@pytest.fixture
def studio() -> Studio:
    return Studio()


class Busy:
    """A queue in which another project's job waits."""

    def depth(self, queue: str) -> int:
        return 1


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[ProjectStore]:
    """A project of 40 tasks with losses and batches."""
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    row, _ = store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=None, label_config=CONFIG,
        extra_params={},
    )  # fmt: skip
    ids = range(1, TASKS + 1)
    store.of(row.id).tasks.apply([TaskChange(i, f"{i}.png", None, Answer.NONE, None) for i in ids])
    store.of(row.id).tasks.images_fetched({i: i - 1 for i in ids})
    store.of(row.id).tasks.set_losses({i: float(loss) for i, loss in enumerate(LOSSES)})
    store.of(row.id).tasks.set_batches({i: i % BATCHES for i in range(TASKS)})
    yield store.of(row.id)
    store.close()


WANTED = {i + 1: {"pretext_batch": i % BATCHES, "pretext_loss": rounded(float(LOSSES[i]))} for i in range(TASKS)}


@pytest.mark.parametrize("at_once", [1, 7, 20, 1000])
def test_every_task_gets_its_batch_and_loss_in_however_many_parts(
    pool: ProjectStore, studio: Studio, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("backend.loop.steps.record.AT_ONCE", at_once)
    shares: list[float] = []
    record(pool, studio, TimeSlice(Busy(), IO), shares.append)
    assert studio.told == WANTED
    assert pool.tasks.counts(0).unrecorded == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_part_has_its_batches_before_its_losses_and_a_call_for_each_value(
    pool: ProjectStore, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.loop.steps.record.AT_ONCE", 20)
    record(pool, studio, TimeSlice(Busy(), IO), ignore)
    halves = [{rounded(float(loss)) for loss in part} for part in np.split(np.sort(LOSSES)[::-1], 2)]
    names = [name for name, _, _ in studio.calls]
    expected = [["pretext_batch"] * BATCHES + ["pretext_loss"] * len(values) for values in halves]
    assert names == expected[0] + expected[1]
    assert sum(tasks for _, _, tasks in studio.calls) == 2 * TASKS, "nothing is told twice"


def test_a_turn_reads_no_more_of_the_pool_than_a_part_and_the_next_goes_on(
    pool: ProjectStore, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.loop.steps.record.AT_ONCE", 10)
    monkeypatch.setattr("backend.queueing.queues.TIME_SLICE_S", 0.0)
    read: list[int] = []
    plain = pool.tasks.unrecorded
    monkeypatch.setattr(pool.tasks, "unrecorded", lambda limit: read.append(limit) or plain(limit))
    turns = 0
    while pool.tasks.counts(0).unrecorded:
        record(pool, studio, TimeSlice(Busy(), IO), ignore)
        turns += 1
        assert len(studio.calls) == turns, "another project waits after every call"
        assert read == [10] * turns
    assert studio.told == WANTED
    assert sum(tasks for _, _, tasks in studio.calls) == 2 * TASKS


def test_a_kill_at_any_call_costs_that_call_alone(
    pool: ProjectStore, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.loop.steps.record.AT_ONCE", 15)
    kills = 0
    while pool.tasks.counts(0).unrecorded:
        studio.left = 2  # it dies in its second call, which is not noted
        try:
            record(pool, studio, TimeSlice(Busy(), IO), ignore)
        except Killed:
            kills += 1
    assert kills > 10
    assert studio.told == WANTED
    assert sum(tasks for _, _, tasks in studio.calls) == 2 * TASKS + studio.lost


@pytest.mark.parametrize(
    ("loss", "kept"),
    [
        (0.0, 0.0),
        (1.234, 1.23),
        (2.345, 2.34),
        (4.991, 5.0),
        (6.789, 6.8),
        (0.09999, 0.1),
        (9.99e-5, 1e-4),
        (12345.0, 12300.0),
    ],
)
def test_rounded_keeps_three_digits_in_steps(loss: float, kept: float) -> None:
    assert rounded(loss) == kept
    assert rounded(-loss) == -kept


def test_rounded_errs_by_half_a_percent_at_most_and_keeps_the_order() -> None:
    losses = np.sort(10 ** np.random.default_rng(0).uniform(-6, 3, 20_000))
    kept = np.array([rounded(float(loss)) for loss in losses])
    assert np.abs(kept / losses - 1).max() <= 0.005 + 1e-9
    assert (np.diff(kept) >= 0).all()
    assert len(np.unique(kept[(losses >= 0.1) & (losses < 1)])) <= 351
