"""The sync job, against a fake Label Studio: images into the bank, and what to do with those that fail."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.loop_project import SIDE, LoopProject

from backend.errors import ImageError, ImageUnavailable, StudioUnreachable
from backend.items import fetching
from backend.loop.context import open_project
from backend.loop.steps import sync as sync_module
from backend.loop.steps.shards import Shards
from backend.loop.steps.sync import sync
from backend.queueing.shards import ShardQueue
from backend.status.status import read_status
from backend.store import ImageState
from model.data.bank import ImageBank
from model.data.decoding import decode


class Slice:
    """A time slice that ends after some looks at it."""

    def __init__(self, looks: int = 1000) -> None:
        self.looks = looks

    def expired(self) -> bool:
        self.looks -= 1
        return self.looks <= 0


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    made = LoopProject(tmp_path, monkeypatch)
    made.add(6)
    made.connect()
    yield made
    made.store.close()


def run(loop: LoopProject, looks: int = 1000) -> list[float]:
    """Run the job; return the shares that it reported."""
    project, shares = open_project(loop.context, loop.id), list[float]()
    given = project.studio, project.files, project.encoders
    shards = Shards(ShardQueue(loop.queueing, loop.id), *given, shares.append)  # type: ignore[arg-type]
    parts = project.store, project.studio, project.files, project.config, project.encoders
    sync(*parts, Slice(looks), shards)  # type: ignore[arg-type]
    return shares


def reference(loop: LoopProject, task: int) -> str:
    return str(loop.server.projects[loop.studio.id].tasks[task].data["image"])


def test_sync_puts_every_image_into_the_bank_where_the_store_says(loop: LoopProject) -> None:
    shares = run(loop)
    assert loop.row.image_side == SIDE
    bank = ImageBank.open(open_project(loop.context, loop.id).files.bank(SIDE))
    pool = loop.store.of(loop.id).tasks.pool(len(bank))
    assert sorted(pool.task_id) == sorted(loop.truth)
    for index, task in enumerate(pool.task_id):
        file = loop.server.files[reference(loop, int(task))]
        np.testing.assert_array_equal(bank.array[index], decode(file, SIDE))
    assert shares[-1] == 1


def test_sync_again_fetches_only_what_is_new(loop: LoopProject) -> None:
    run(loop)
    fetched = []
    loop.server.before = lambda request: fetched.append(request) if "/data/" in request else None
    (more,) = loop.add(1)
    run(loop)
    assert fetched == [f"GET {reference(loop, more)}"]
    assert loop.store.of(loop.id).tasks.counts(0).ok == 7


def test_an_image_that_cannot_be_had_is_broken_and_the_others_are_not(loop: LoopProject) -> None:
    first, second, *_ = sorted(loop.truth)
    loop.server.files[reference(loop, first)] = ImageError("Label Studio answered 404 Not Found")
    loop.server.files[reference(loop, second)] = b"no image"
    run(loop)
    counts = loop.store.of(loop.id).tasks.counts(0)
    assert (counts.ok, counts.broken) == (4, 2)
    assert loop.state_of(first) == loop.state_of(second) == ImageState.BROKEN


def test_an_image_whose_source_fails_is_tried_again_later(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    first = min(loop.truth)
    name = reference(loop, first)
    image, loop.server.files[name] = loop.server.files[name], ImageUnavailable("503")
    run(loop)
    assert loop.state_of(first) == ImageState.NEW
    assert loop.store.of(loop.id).tasks.counts(0).ok == 5
    loop.server.files[name] = image
    run(loop)
    assert loop.state_of(first) == ImageState.NEW, "it waits for its next try"
    loop.store.of(loop.id).tasks.retry_due(9e9)
    monkeypatch.setattr(sync_module, "time", type("Later", (), {"time": staticmethod(lambda: 9e9)}))
    run(loop)
    assert loop.state_of(first) == ImageState.OK


def test_a_source_that_keeps_failing_is_listed_as_broken(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    first = min(loop.truth)
    loop.server.files[reference(loop, first)] = ImageUnavailable("503")
    run(loop)
    for number in range(1, sync_module.TRIES):
        assert loop.state_of(first) != ImageState.BROKEN
        monkeypatch.setattr(
            sync_module, "time", type("Later", (), {"time": staticmethod(lambda n=number: 1e10 * (n + 1))})
        )
        run(loop)
    assert loop.state_of(first) == ImageState.BROKEN


def test_sync_blames_no_image_when_label_studio_is_down(loop: LoopProject) -> None:
    def down(request: str) -> None:
        if "/data/" in request:
            raise StudioUnreachable("down")

    loop.server.before = down
    with pytest.raises(StudioUnreachable):
        run(loop)
    counts = loop.store.of(loop.id).tasks.counts(0)
    assert (counts.new, counts.broken) == (6, 0)


def test_sync_makes_way_and_goes_on_where_it_was(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.loop.steps.shards.COMMIT_IMAGES", 2)
    run(loop, looks=1)
    assert loop.store.of(loop.id).tasks.counts(0).ok == 2
    run(loop)
    assert loop.store.of(loop.id).tasks.counts(0).ok == 6


def test_sync_finds_deleted_tasks(loop: LoopProject) -> None:
    run(loop)
    gone = min(loop.truth)
    loop.person.delete_task(gone)
    run(loop)
    assert loop.store.of(loop.id).tasks.known() == set(loop.truth) - {gone}


def deep(high: int, low: int = 0) -> bytes:
    """Return a 16-bit PNG whose values go from low to high."""
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(low, high, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def bank_of(loop: LoopProject) -> ImageBank:
    return ImageBank.open(open_project(loop.context, loop.id).files.bank(SIDE))


def brightest(loop: LoopProject, task: int) -> int:
    index = loop.store.of(loop.id).tasks.pool_indices([task])[task]
    return int(bank_of(loop).array[index].max())


def make_deep(loop: LoopProject, highs: Sequence[int]) -> list[int]:
    tasks = sorted(loop.truth)[: len(highs)]
    for task, high in zip(tasks, highs, strict=True):
        loop.server.files[reference(loop, task)] = deep(high)
    return tasks


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_pictures_of_so_many_bits_have_the_range_of_the_pool(loop: LoopProject, bits: int) -> None:
    full = 2**bits - 1
    dim, bright, *_ = make_deep(loop, [full // 3, full, full, full, full, full])
    run(loop)
    assert bank_of(loop).ranges == {"integer": (0, full)}
    assert (brightest(loop, dim), brightest(loop, bright)) == (85, 255)
    said = read_status(loop.store, loop.row).notice or ""
    assert f"black to white as 0 to {full:,} in pictures of 16 or 32 bits" in said


def test_a_range_widens_before_a_model_has_learned(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SAMPLE_IMAGES", 2)
    monkeypatch.setattr("backend.loop.steps.shards.COMMIT_IMAGES", 2)
    first, *_, last = make_deep(loop, [1000, 1000, 1000, 1000, 1000, 4000])
    run(loop)
    assert bank_of(loop).ranges == {"integer": (0, 4000)}
    assert (brightest(loop, first), brightest(loop, last)) == (64, 255)
    assert loop.store.of(loop.id).tasks.counts(0).ok == 6
    assert len(bank_of(loop)) == 6


def test_a_range_stays_once_a_model_learns_from_it(loop: LoopProject) -> None:
    first, *_ = make_deep(loop, [1000] * 6)
    run(loop)
    loop.store.of(loop.id).set(pretext_images=6)
    (more,) = loop.add(1)
    loop.server.files[reference(loop, more)] = deep(4000)
    run(loop)
    assert bank_of(loop).ranges == {"integer": (0, 1000)}
    assert (brightest(loop, first), brightest(loop, more)) == (255, 255)


def test_the_first_deep_picture_of_a_pool_in_use_gets_a_range(loop: LoopProject) -> None:
    run(loop)
    loop.store.of(loop.id).set(pretext_images=6)
    before = bank_of(loop).array[:].copy()
    (more,) = loop.add(1)
    loop.server.files[reference(loop, more)] = deep(4000)
    run(loop)
    assert bank_of(loop).ranges == {"integer": (0, 4000)}
    assert brightest(loop, more) == 255
    np.testing.assert_array_equal(bank_of(loop).array[:6], before)
