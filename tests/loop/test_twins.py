"""Equal images, as of a list that was imported twice, and images that look nearly alike."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fake_encoder import use_fake_encoders
from support.loop_project import SIDE, WITH_ENCODER, LoopProject, answer_of, shorten_training

from backend.loop.context import open_project
from backend.loop.steps.retrain import Training, labels_of
from backend.status.status import read_status
from backend.status.summary import as_json
from backend.status.twins import read_twins, twins_text
from backend.store import AskRole, AskState

IMAGES, ASKED = 40, 6
PARAMS = {**WITH_ENCODER, "labels_per_round": ASKED, "holdout_fraction": 0.5}


def begin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> LoopProject:
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    return LoopProject(folder, monkeypatch)


def import_again(loop: LoopProject, tasks: list[int], form: str = "PNG") -> dict[int, int]:
    """Import the pictures of these tasks once more, at other addresses; return the new task of each."""
    references = []
    for task in tasks:
        before = loop.server.files[str(loop.server.projects[loop.studio.id].tasks[task].data["image"])]
        assert isinstance(before, bytes)
        file = BytesIO()
        Image.open(BytesIO(before)).save(file, form, quality=95)
        references.append(f"/data/upload/again-{task}.{form.lower()}")
        loop.server.files[references[-1]] = file.getvalue()
    loop.person.import_tasks(loop.studio.id, [{"data": {"image": reference}} for reference in references])
    again = sorted(loop.server.projects[loop.studio.id].tasks)[-len(tasks) :]
    loop.truth |= {new: loop.truth[old] for old, new in zip(tasks, again, strict=True)}
    return dict(zip(tasks, again, strict=True))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoopProject, dict[int, int]]:
    """A project of 40 pictures, each imported twice, with losses and batches; and the second task of each picture."""
    with pytest.MonkeyPatch.context() as patch:
        made = begin(tmp_path_factory.mktemp("twins"), patch)
        twin = import_again(made, made.add(IMAGES))
        made.connect(**PARAMS)
        made.run()
        made.store.close()
        return made, twin


@pytest.fixture
def twin(served: tuple[LoopProject, dict[int, int]]) -> dict[int, int]:
    return served[1]


@pytest.fixture
def loop(
    served: tuple[LoopProject, dict[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopProject]:
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = served[0].copied(tmp_path / "project", monkeypatch)
    yield made
    made.store.close()


def recorded(loop: LoopProject, task: int) -> tuple[object, object]:
    data = loop.server.projects[loop.studio.id].tasks[task].data
    return data["pretext_loss"], data["pretext_batch"]


def asked(loop: LoopProject, number: int) -> list[tuple[int, AskRole]]:
    asks = loop.store.of(loop.id).rounds.asks(number, states=list(AskState))
    return [(ask.task_id, AskRole(ask.role)) for ask in asks]


def test_equal_images_share_loss_and_batch(loop: LoopProject, twin: dict[int, int]) -> None:
    for first, second in twin.items():
        assert recorded(loop, first) == recorded(loop, second)
    view = loop.store.of(loop.id).tasks.pool(2 * IMAGES)
    assert len(np.unique(view.loss)) > IMAGES // 2
    assert np.bincount(view.batch).sum() == 2 * IMAGES
    assert np.ptp(np.bincount(view.batch)) <= 2, "a picture counts once in the sizes of batches"


def test_a_round_asks_each_picture_once(loop: LoopProject, twin: dict[int, int]) -> None:
    picture = {**{task: task for task in twin}, **{second: first for first, second in twin.items()}}
    before: set[int] = set()
    for number in range(3):
        pictures = [picture[task] for task, _ in asked(loop, number)]
        assert len(set(pictures)) == len(pictures), "queue, holdout and reserve"
        queue = {picture[task] for task, role in asked(loop, number) if role != AskRole.RESERVE}
        assert not queue & before, "nor one that was answered before"
        before |= queue
        loop.answer(loop.round.asked)
        loop.run()
    held, learned = ({picture[task] for task in tasks} for tasks in (held_tasks(loop), learned_tasks(loop)))
    assert held
    assert not held & learned


def held_tasks(loop: LoopProject) -> set[int]:
    view = loop.store.of(loop.id).tasks.pool(loop.store.of(loop.id).tasks.pool_size())
    return set(view.task_id[view.holdout & ~view.available].tolist())


def learned_tasks(loop: LoopProject) -> set[int]:
    project = open_project(loop.context, loop.id)
    training = Training.open(project.store, project.files, project.config, project.labeling, "cpu")
    view = project.store.tasks.pool(project.store.tasks.pool_size())
    return set(view.task_id[labels_of(training).train].tolist())


def test_everything_is_asked_in_the_end(loop: LoopProject, twin: dict[int, int]) -> None:
    loop.setup(**{**PARAMS, "labels_per_round": 20})
    for _ in range(10):
        if loop.store.of(loop.id).tasks.counts(0).available == 0:
            break
        assert loop.answer(loop.round.asked), "the queue is never empty while images are left"
        loop.run()
    assert loop.store.of(loop.id).tasks.counts(0).available == 0
    held, learned = held_tasks(loop), learned_tasks(loop)
    assert held
    assert learned | held == set(loop.truth), "nothing that was labeled is left out"
    assert all((first in held) == (second in held) for first, second in twin.items())


def test_a_label_for_the_twin_of_a_holdout_image_is_not_learned(loop: LoopProject, twin: dict[int, int]) -> None:
    loop.answer(loop.round.asked)
    loop.run()
    held = min(held_tasks(loop))
    other = twin.get(held) or next(first for first, second in twin.items() if second == held)
    loop.person.annotate(other, answer_of(loop.truth[other]))
    loop.run()
    assert loop.stored(other)[0] == "labeled"
    assert other not in learned_tasks(loop)
    assert held in held_tasks(loop)


def test_people_are_told_how_many_there_are(loop: LoopProject) -> None:
    assert as_json(read_status(loop.store, loop.row))["pool"]["equal"] == 2 * IMAGES
    counts = read_twins(open_project(loop.context, loop.id).files)
    assert counts is not None
    assert twins_text(counts) == (
        "Of 80 images, 80 equal another one pixel by pixel. Of each kind one is asked while others are left, "
        "and no two that are equal are in both training and holdout."
    )


def test_removing_the_duplicates_leaves_the_others_as_they_were(loop: LoopProject, twin: dict[int, int]) -> None:
    before = {task: recorded(loop, task) for task in twin}
    loop.answer(loop.round.asked)
    answered = {task for task in loop.truth if loop.server.projects[loop.studio.id].tasks[task].annotations}
    for first, second in twin.items():  # as Label Studio does: one without an annotation goes
        loop.person.delete_task(first if second in answered else second)
    loop.run()
    left = sorted(loop.server.projects[loop.studio.id].tasks)
    assert len(left) == IMAGES
    assert {task: recorded(loop, task) for task in left if task in twin} == {
        task: before[task] for task in left if task in twin
    }
    assert as_json(read_status(loop.store, loop.row))["pool"]["equal"] == 0


def test_a_pool_of_an_earlier_release_gets_shared_losses(loop: LoopProject, twin: dict[int, int]) -> None:
    project = open_project(loop.context, loop.id)
    (project.files.bank(SIDE) / "digests.bin").unlink()
    project.files.twins().unlink()
    view = project.store.tasks.pool(2 * IMAGES)
    second = np.flatnonzero(np.isin(view.task_id, list(twin.values())))
    project.store.tasks.set_losses({int(index): float(view.loss[index]) * 1.5 for index in second})
    project.store.tasks.set_batches({int(index): 3 - int(view.batch[index]) for index in second})
    assert "twins" in loop.run()
    for first, other in twin.items():
        assert recorded(loop, first) == recorded(loop, other)
    assert as_json(read_status(loop.store, loop.row))["pool"]["equal"] == 2 * IMAGES


def test_a_picture_that_is_imported_once_more_gets_the_loss_and_batch_of_the_first(loop: LoopProject) -> None:
    task = min(loop.truth)
    (third,) = import_again(loop, [task], "BMP").values()
    loop.run()
    assert recorded(loop, third) == recorded(loop, task)
    assert as_json(read_status(loop.store, loop.row))["pool"]["equal"] == 2 * IMAGES + 1


@pytest.fixture
def compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LoopProject, dict[int, int]]]:
    """A project of 60 pictures, 30 of which are there once more as JPEG."""
    made = begin(tmp_path, monkeypatch)
    monkeypatch.setattr("support.loop_project.image_of", unlike)
    twin = import_again(made, made.add(60)[:30], "JPEG")
    yield made, twin
    made.store.close()


def unlike(name: str, generator: np.random.Generator, side: int) -> bytes:
    """Draw a picture like no other: 4 x 4 squares of any grey."""
    squares = np.kron(generator.integers(0, 256, (4, 4)), np.ones((side // 4, side // 4)))
    pixels = squares[:, :, None].repeat(3, 2).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_pictures_that_look_alike_are_counted_and_asked_once(compressed: tuple[LoopProject, dict[int, int]]) -> None:
    loop, twin = compressed
    loop.server.clock.advance(60)  # what is no longer recent is read once
    loop.connect(**PARAMS)
    loop.run()
    pool = as_json(read_status(loop.store, loop.row))["pool"]
    assert (pool["equal"], pool["alike"]) == (0, 60)
    picture = {**{task: task for task in loop.truth}, **{second: first for first, second in twin.items()}}
    for number in range(3):
        queue = [picture[task] for task, role in asked(loop, number) if role != AskRole.RESERVE]
        assert len(set(queue)) == len(queue)
        loop.answer(loop.round.asked)
        loop.run()
    assert not {picture[task] for task in held_tasks(loop)} & {picture[task] for task in learned_tasks(loop)}


def test_they_are_counted_once_until_the_pool_changes(loop: LoopProject) -> None:
    assert "twins" not in loop.run()
    loop.add(1)
    assert "twins" in loop.run()
