"""A large pool is cut into batches by a job, so that nobody's next step waits for its writes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.offline_project import IMAGES, PARAMS, SIDE, NoQueue, Project, ignore

from backend.errors import Superseded
from backend.loop import jobs
from backend.loop.advance import gather_facts, start_job
from backend.loop.context import Context
from backend.loop.decide import INLINE_SPLIT, JOB_OF_STEP, Step, is_missing, next_step, unwanted_jobs
from backend.loop.facts import Facts, JobKind
from backend.loop.keys import pretext_key, split_key
from backend.loop.steps.split import split_pool
from backend.queueing.queues import IO
from backend.store.task_counts import TaskCounts
from model.querying.batches import split

LOSSES = np.random.default_rng(0).lognormal(-1.2, 1.0, IMAGES).astype(np.float32)


class Queue:
    """What is queued, for workers that other projects wait for."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str, int, str]] = []
        self.hints = 0
        self.meters = NoQueue.meters

    def enqueue(self, queue: str, kind: str, key: int, token: str) -> None:
        self.jobs.append((queue, kind, key, token))

    def is_queued(self, token: str) -> bool:
        return any(job[3] == token for job in self.jobs)

    def wake(self, key: int, *, timer: bool = False) -> None:
        self.hints += 1

    def depth(self, queue: str) -> int:
        return 1


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: Queue) -> Iterator[Project]:
    """A project of 80 images that have their losses, which are 30 more than are split on the way."""
    made = Project(tmp_path)
    made.context = Context(made.context.settings, made.store, queue)
    work = made.open()
    made.store.of(made.key).tasks.set_losses({i: float(loss) for i, loss in enumerate(LOSSES)})
    made.store.projects.set(made.key, pretext_key=pretext_key(work.config, SIDE), pretext_images=IMAGES)
    made.step(Step.NOTE_POOL)
    monkeypatch.setattr("backend.loop.decide.INLINE_SPLIT", 30)
    monkeypatch.setattr("backend.loop.steps.split.PART", 30)
    monkeypatch.setattr(jobs, "context", lambda: made.context)
    yield made
    made.store.close()


def take_split(project: Project) -> None:
    """Do what the table says of the batches."""
    step = next_step(gather_facts(project.context, project.key, None), {Step.PLAN})
    if step == Step.SPLIT_LARGE:
        start_job(project.context, project.key, JOB_OF_STEP[step])
    elif step == Step.SPLIT:
        project.step(step)
        project.store.of(project.key).jobs.forget_failed(
            unwanted_jobs(gather_facts(project.context, project.key, None))
        )


def batches(project: Project) -> list[int]:
    return project.store.of(project.key).tasks.pool(IMAGES).batch.tolist()


def wanted(project: Project) -> list[int]:
    return split(LOSSES, PARAMS["rounds"], project.open().config.batch_order).tolist()


def test_a_large_pool_is_split_by_a_job_that_makes_way_for_other_projects(
    project: Project, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.queueing.queues.TIME_SLICE_S", 0.0)
    left = []
    for _ in range(3):
        take_split(project)
        take_split(project)  # another event, while it waits for a worker
        if queue.jobs:
            name, kind, key, token = queue.jobs.pop()
            assert (name, kind, key, queue.jobs) == (IO, JobKind.SPLIT, project.key, [])
            jobs.run(kind, key, token)
        left.append(project.store.of(project.key).tasks.counts(0).unsplit)
    assert left == [50, 20, 0]
    assert queue.hints == 3
    assert batches(project) == wanted(project)
    assert project.open().row.split_key == split_key(project.open().config)


def test_a_job_that_is_not_disturbed_splits_the_whole_pool(project: Project, queue: Queue) -> None:
    take_split(project)
    jobs.run(*queue.jobs.pop()[1:])
    assert batches(project) == wanted(project)
    assert project.open().row.split_key == split_key(project.open().config)
    assert project.store.of(project.key).jobs.all() == []


def test_the_rest_of_a_split_is_left_to_the_job_too_since_one_image_less_shifts_all_ranks(
    project: Project, queue: Queue
) -> None:
    split_pool(project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True)
    split_pool(project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True)
    before = batches(project)
    take_split(project)
    assert (batches(project), len(queue.jobs)) == (before, 1)


def test_no_round_is_planned_while_only_a_part_of_the_pool_has_its_batch(project: Project) -> None:
    split_pool(project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True)
    with pytest.raises(Superseded, match="batches of project"):
        project.step(Step.PLAN)
    assert project.store.of(project.key).rounds.current() is None
    assert not gather_facts(project.context, project.key, None).extendable


def test_a_split_of_images_that_are_fetched_anew_meanwhile_does_not_count(project: Project) -> None:
    def lost(share: float) -> None:  # what another worker does that finds the bank damaged
        project.store.projects.set(project.key, pretext_key=None, split_key=None)

    with pytest.raises(Superseded):
        split_pool(project.store.of(project.key), project.open().files, project.open().config, lost)
    assert project.open().row.split_key is None


def test_a_failed_split_is_forgotten_once_nothing_calls_for_one() -> None:
    assert JobKind.SPLIT in unwanted_jobs(Facts(split_current=True, pretext_current=True))
    many = INLINE_SPLIT + 1
    needed = Facts(pretext_current=True, to_split=many, tasks=TaskCounts(tasks=many, ok=many, unsplit=many))
    assert JobKind.SPLIT not in unwanted_jobs(needed)


def test_nothing_is_recorded_of_a_split_that_is_not_whole(project: Project) -> None:
    def called_for() -> bool:
        return is_missing(Step.RECORD, gather_facts(project.context, project.key, None))

    split_pool(project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True)
    assert project.store.of(project.key).tasks.counts(0).unrecorded == 30
    assert not called_for()
    project.step(Step.SPLIT)
    assert called_for()


def test_what_a_split_has_written_already_is_not_written_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_pool(project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True)
    written: list[int] = []
    plain: Callable[..., None] = project.store.of(project.key).tasks.set_batches
    monkeypatch.setattr(
        project.store.of(project.key).tasks, "set_batches", lambda values: written.extend(values) or plain(values)
    )
    project.step(Step.SPLIT)
    assert sorted(written) == list(range(30, IMAGES))
    assert batches(project) == wanted(project)


def test_the_rest_of_a_failed_split_ends_its_failure(
    project: Project, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_split(project)
    *_, kind, key, token = queue.jobs.pop()
    split_pool(project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True)
    split_pool(project.store.of(project.key), project.open().files, project.open().config, ignore, lambda: True)
    project.store.of(key).jobs.take(kind, token, "w")
    take_split(project)
    assert project.store.of(key).tasks.counts(0).unsplit == 20, "the job lives and will write them"
    project.store.of(key).jobs.fail(kind, token, "disk full")
    monkeypatch.setattr("backend.loop.decide.INLINE_SPLIT", IMAGES)  # as if most images were deleted meanwhile
    take_split(project)
    assert batches(project) == wanted(project)
    assert project.store.of(key).jobs.all() == []
