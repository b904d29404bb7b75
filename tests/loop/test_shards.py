"""Images that several workers fetch and embed: the same bits as by one, whoever does what, and whoever dies."""

import os
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from support.fake_encoder import OTHER, use_fake_encoders
from support.loop_project import WITH_ENCODER, LoopProject

from backend.errors import QueueUnavailable
from backend.items.fetching import FetchedImage
from backend.loop import jobs, step_table
from backend.loop.facts import JobKind
from backend.loop.steps import shards
from backend.loop.steps.shards import Shards, do_shard, read_shard, write_shard
from backend.queueing.presence import Presence, Process
from backend.queueing.queues import IO, SHARDS, Queueing
from backend.queueing.shards import ShardQueue
from backend.queueing.worker import AllowedJob
from model.data.ranges import Depth

IMAGES, SHARD = 60, 8


class Others:
    """Other workers, in this process. fate: what becomes of a shard, by its number in the order of handing out.

    "done": one does it at once. "late": after some looks. "dead": who has begun it dies. "left": nobody begins it.
    "away": Redis is, from then on.
    """

    def __init__(self, loop: LoopProject, fate: str) -> None:
        self.loop, self.fate = loop, fate
        self.handed: dict[str, int] = {}
        self.looks: dict[str, int] = {}
        self.done: list[str] = []
        self.away = False

    def helpers(self) -> int:
        self._answer()
        return 2

    def hand_out(self, key: str) -> None:
        self._answer()
        number = self.handed.setdefault(key, len(self.handed))
        if self._fate(key) == "done":
            self._do(key)
        self.away = self.fate == "away" and number == 4

    def take_back(self, key: str) -> bool:
        self._answer()
        return self._fate(key) == "left" and self.handed.pop(key, None) is not None

    def is_at_work(self, key: str) -> bool:
        self._answer()
        self.looks[key] = self.looks.get(key, 0) + 1
        if self.looks[key] < 3:
            return True
        if self._fate(key) == "late" and key not in self.done:
            self._do(key)
        return False

    def forget(self, key: str) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.away:
            raise QueueUnavailable("it is away")

    def _fate(self, key: str) -> str:
        fates = {"mixed": ("done", "late", "dead", "left"), "away": ("done", "late")}.get(self.fate, (self.fate,))
        return fates[self.handed.get(key, 0) % len(fates)]

    def _do(self, key: str) -> None:
        self.done.append(key)
        jobs.shard(self.loop.id, key)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project of images of which some cannot be used."""
    use_fake_encoders(monkeypatch)
    monkeypatch.setattr(shards, "COMMIT_IMAGES", SHARD)
    monkeypatch.setattr(shards, "WAIT_S", 0.0)
    (tmp_path / "one").mkdir()
    made = LoopProject(tmp_path / "one", monkeypatch)
    made.add(IMAGES)
    for number in (3, 20, 21):
        made.server.files[f"/data/upload/{number}.png"] = b"no picture"
    made.connect(**WITH_ENCODER)
    yield made
    made.store.close()


def made_by(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch, fate: str | None, kind: JobKind = JobKind.SYNC
) -> Others:
    """Run a job with such helpers."""
    others = Others(loop, fate or "")
    if fate is not None:
        monkeypatch.setattr(step_table, "ShardQueue", lambda *_: others)
    step_table.JOBS[kind].call(loop.context, jobs.open_project(loop.context, loop.id), lambda share: None)
    return others


def content(loop: LoopProject) -> dict[str, bytes]:
    """What the job has written: every file of the project, and the pool."""
    folder = loop.folder / "projects" / str(loop.id)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    pool = loop.store.of(loop.id).tasks.pool(IMAGES)
    counts = loop.store.of(loop.id).tasks.counts(0)
    return files | {"pool": pool.task_id.tobytes(), "counts": repr((counts.ok, counts.broken, counts.new)).encode()}


@pytest.mark.parametrize("fate", ["mixed", "dead", "away"])
def test_sync_writes_the_same_bits_whoever_does_the_shards(
    loop: LoopProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    loop.store.close()
    alone = loop.copied(tmp_path / "alone", monkeypatch)
    made_by(alone, monkeypatch, None)
    wanted = content(alone)
    alone.store.close()
    assert wanted["counts"] == b"(57, 3, 0)"
    together = loop.copied(tmp_path / "together", monkeypatch)
    others = made_by(together, monkeypatch, fate)
    assert content(together) == wanted
    together.store.close()
    assert len(others.done) >= {"mixed": 4, "dead": 0, "away": 3}[fate]


def test_embed_writes_the_same_bits_whoever_does_the_shards(
    loop: LoopProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After another encoder was configured; one image cannot be fetched any more."""
    made_by(loop, monkeypatch, None)
    del loop.server.files["/data/upload/11.png"]
    row = loop.store.of(loop.id).row()
    loop.store.of(loop.id).set(extra_params={**row.extra_params, "encoder": OTHER})
    loop.store.close()
    alone = loop.copied(tmp_path / "alone", monkeypatch)
    made_by(alone, monkeypatch, None, JobKind.EMBED)
    wanted = content(alone)
    assert any("other" in name for name in wanted)
    alone.store.close()
    together = loop.copied(tmp_path / "together", monkeypatch)
    assert made_by(together, monkeypatch, "mixed", JobKind.EMBED).done
    assert content(together) == wanted
    together.store.close()


def test_what_a_job_that_makes_way_has_ready_is_not_done_again(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = jobs.open_project(loop.context, loop.id)
    refs = [(number, f"/data/upload/{number}.png") for number in range(4 * SHARD)]
    recipe = shards.Recipe(shards.Sides(16))
    others = Others(loop, "left")
    others.is_at_work = lambda key: len(list(project.files.shards.glob("*.npz"))) == 0 and not made  # type: ignore[method-assign]
    made: list[int] = []
    monkeypatch.setattr(shards, "make", lambda *given: made.append(1) or [FetchedImage(1, error="x")])
    others._fate = lambda key: "begun" if others.handed.get(key) == 0 else "left"  # type: ignore[method-assign]
    images = Shards(others, project.studio, project.files, project.encoders, lambda share: None).images(refs, recipe)
    next(images)
    assert len(made) == 2, "the second while the first was another's, then the first"
    images.close()
    assert len(list(project.files.shards.glob("*.npz"))) == 1


def test_a_shard_that_nobody_wants_any_more_is_not_done(loop: LoopProject) -> None:
    project = jobs.open_project(loop.context, loop.id)
    do_shard(project.studio, project.files, project.encoders, "0" * 32)
    jobs.shard(loop.id + 1, "0" * 32)
    assert not project.files.shards.exists()


def test_what_killed_jobs_have_left_is_deleted_after_an_hour(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = jobs.open_project(loop.context, loop.id).files
    for name, age_s in (("a", 0), ("b", 4000)):
        write_shard(files.shard(name), [])
        os.utime(files.shard(name), (time.time() - age_s,) * 2)
    made_by(loop, monkeypatch, None)
    assert [path.name for path in files.shards.iterdir()] == ["a.npz"]


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def pixels(side: int) -> np.ndarray:
        return rng.integers(0, 256, (side, side, 3), np.uint8)

    images = [
        FetchedImage(1, pixels(4), features=np.float16([1, 2]), view=pixels(6), size=(7, 8), depth=Depth("a", 0, 1)),
        FetchedImage(2, error="no \"picture\" Käse", transient=True),
        FetchedImage(3, pixels(4), features=np.float16([3, 4]), activations=np.float16([5]), size=(1, 1)),
    ]  # fmt: skip
    assert read_shard(tmp_path / "a.npz") is None
    write_shard(tmp_path / "a.npz", images)
    read = read_shard(tmp_path / "a.npz") or []
    for one, other in zip(images, read, strict=True):
        for field in fields(FetchedImage):
            np.testing.assert_equal(getattr(one, field.name), getattr(other, field.name))


# Shards in a real Redis


def worker(queueing: Queueing, name: str) -> Presence:
    process = Process.here("worker", (IO,), database="d", folder="f", data_dir=Path())
    return Presence(queueing, replace(process, name=f"beta:{name}"))


def test_a_shard_waits_until_it_is_taken_back_or_done(queueing: Queueing) -> None:
    queue = ShardQueue(queueing, 1)
    assert not queue.take_back("a")
    queue.hand_out("a")
    queue.hand_out("a")
    assert queueing.depth(SHARDS) == 1
    assert queueing.depth(IO) == 0, "jobs of other projects do not see it"
    assert queue.take_back("a")
    assert (queueing.depth(SHARDS), queue.is_at_work("a")) == (0, False)
    queue.hand_out("a")
    assert queueing.depth(SHARDS) == 1, "it may be handed out again"


def test_a_shard_is_at_work_while_its_worker_lives(queueing: Queueing, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = ShardQueue(queueing, 1)
    monkeypatch.setattr("backend.queueing.shards.LOOK_S", 0.0)
    assert queue.helpers() == 0
    living = worker(queueing, "io")
    living.enter()
    queue.hand_out("a")
    seen: list[tuple[int, bool, bool]] = []
    monkeypatch.setattr(
        jobs, "shard", lambda *_: seen.append((queue.helpers(), queue.is_at_work("a"), queue.take_back("a")))
    )
    given = {"connection": queueing.connection, "job_class": AllowedJob, "serializer": JSONSerializer}
    named = SimpleWorker([queueing.queue(SHARDS)], name="beta:io", **given)
    monkeypatch.setattr("backend.queueing.presence.Presence.current", None)
    named.work(burst=True, logging_level="ERROR")
    assert seen == [(1, True, False)]
    assert not queue.is_at_work("a"), "it is done"
    living.leave()


def test_a_shard_whose_worker_died_is_at_work_no_more(queueing: Queueing, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = ShardQueue(queueing, 1)
    queue.hand_out("a")
    queueing.connection.lpop("rq:queue:pt4al:shards")
    assert queue.is_at_work("a"), "somebody has just taken it"
    monkeypatch.setattr("backend.queueing.shards.DEAD_AFTER_S", -1.0)
    assert not queue.is_at_work("a"), "and died before saying so"
    queueing.connection.hset("rq:job:a", mapping={"worker_name": "gamma:io", "status": "started"})
    monkeypatch.setattr("backend.queueing.shards.DEAD_AFTER_S", 60.0)
    assert not queue.is_at_work("a"), "nobody of that name lives"
    queue.forget("a")
    queue.forget("a")
    assert not queueing.connection.exists("rq:job:a")
