"""Sample data first, then the real ones: sizes, pretext model, features and rounds follow the pool that is there."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fake_encoder import use_fake_encoders
from support.loop_project import SIDE, WITH_ENCODER, LoopProject, image_of, shorten_training

from backend.loop.context import open_project
from backend.store import AskState, RoundState
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.encoders.registry import SIDES

SAMPLE, PHOTOS = 12, 16  # images
LARGE = 2 * SIDES[0]  # pixels, of photos


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project without images before it is connected; nothing is exported, and nothing compared."""
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = LoopProject(tmp_path, monkeypatch)
    yield made
    made.store.close()


def serve(loop: LoopProject, side: int, number: int = SAMPLE, **params: object) -> list[int]:
    """Import images of this side and connect; return the tasks, of which a first round is served."""
    tasks = loop.add(number, side)
    loop.connect(**{**WITH_ENCODER, "learner": "linear", **params})
    loop.run()
    assert loop.round.state == RoundState.LIVE
    return tasks


def check_whole(loop: LoopProject, side: int, encoder_side: int) -> None:
    """Compare the bank, features, losses and what is served with the tasks that are there."""
    loop.run()
    project = open_project(loop.context, loop.id)
    counts, row = project.store.tasks.counts(0.0), project.row
    assert (row.image_side, row.encoder_side) == (side, encoder_side)
    assert counts.ok == counts.tasks == len(loop.truth)
    assert (counts.new, counts.unscored, counts.unsplit) == (0, 0, 0)
    assert len(ImageBank.open(project.files.bank(side))) >= counts.ok
    features = FeatureBank.open(project.files.features(row.features_key or ""))
    assert (features.side, len(features) >= counts.ok) == (encoder_side, True)
    assert loop.round.state == RoundState.LIVE
    assert set(loop.posted()) <= set(loop.truth)
    assert loop.server.projects[loop.studio.id].model_version == loop.round.model_version
    assert (row.error, row.stale) == (None, None)


@pytest.mark.parametrize(
    ("first", "then", "sides", "order"),
    [
        (SIDE, LARGE, (96, SIDES[1]), "deleted, then imported"),
        (1, LARGE, (96, SIDES[1]), "looked at in between"),
        (LARGE, SIDE, (SIDE, SIDES[0]), "imported, then deleted"),
    ],
    ids=["icons, photos", "pixels, photos", "photos, icons"],
)
def test_real_images_in_the_place_of_sample_data_are_a_pool_of_their_own(
    loop: LoopProject, first: int, then: int, sides: tuple[int, int], order: str
) -> None:
    old = serve(loop, first)
    asked, trained = len(loop.queue()), loop.row.pretext_images
    if order == "imported, then deleted":
        loop.add(PHOTOS, then)
        loop.run()
        loop.delete(old)
    else:
        loop.delete(old)
        if order == "looked at in between":
            loop.run()
            assert loop.store.of(loop.id).rounds.current() is None
        loop.add(PHOTOS, then)
    check_whole(loop, *sides)
    assert (loop.round.number, trained) == (0, SAMPLE)
    if order != "imported, then deleted":
        assert (len(loop.queue()), loop.row.pretext_images) == (asked, PHOTOS), "a round as any other"


def test_sample_data_that_was_learned_from_leaves_no_round(loop: LoopProject) -> None:
    old = serve(loop, SIDE)
    loop.answer(4)
    loop.run()
    assert loop.round.number == 1
    loop.delete(old)
    loop.add(PHOTOS, LARGE)
    check_whole(loop, 96, SIDES[1])
    assert [row.number for row in loop.store.of(loop.id).rounds.all()] == [0]
    assert loop.answer(4)
    loop.run()
    assert loop.round.number == 1


def test_the_same_images_imported_again_go_on_without_their_labels(loop: LoopProject) -> None:
    old = serve(loop, SIDE)
    loop.answer(4)
    loop.run()
    files = loop.server.files
    data = [dict(loop.server.projects[loop.studio.id].tasks[task].data) for task in old]
    truth = [loop.truth[task] for task in old]
    loop.delete(old)
    loop.person.import_tasks(loop.studio.id, [{"data": one} for one in data])
    loop.truth = dict(zip(sorted(loop.server.projects[loop.studio.id].tasks), truth, strict=True))
    assert len(files) == SAMPLE
    check_whole(loop, SIDE, SIDES[0])
    assert loop.round.number == 1, "the model knows the pictures"
    assert loop.store.of(loop.id).tasks.counts(0.0).labeled == 0
    loop.answer(4)
    loop.run()
    assert loop.round.number == 2


def test_tasks_that_get_the_ids_of_deleted_ones_are_another_pool(loop: LoopProject) -> None:
    """As on a real server with SQLite; people who edit the data of all tasks do the same."""
    old = serve(loop, SIDE)
    for task in old:
        reference = f"/data/upload/photo-{task}.png"
        loop.server.files[reference] = image_of(loop.truth[task], loop.generator, LARGE)
        loop.person.call("PATCH", f"/api/tasks/{task}/", {"data": {"image": reference}})
    check_whole(loop, 96, SIDES[1])
    assert (loop.round.number, loop.row.pretext_images) == (0, SAMPLE)


def test_ten_times_as_many_of_another_size_are_followed_and_labels_stay(loop: LoopProject) -> None:
    serve(loop, SIDE)
    answered = loop.answer(3)
    loop.run()
    loop.add(10 * SAMPLE, LARGE)
    check_whole(loop, 96, SIDES[1])
    assert {loop.stored(task)[1] for task in answered} == {loop.truth[task] for task in answered}
    assert loop.row.pretext_images == 11 * SAMPLE
    assert loop.round.number == 0, "somebody has answered it"
    loop.answer()
    loop.run()
    assert loop.round.number == 1


def test_ten_times_as_many_of_the_same_size_are_asked_from_as_well(loop: LoopProject) -> None:
    old = serve(loop, SIDE)
    bank = loop.row.fetching_since
    loop.add(10 * SAMPLE, SIDE)
    check_whole(loop, SIDE, SIDES[0])
    assert loop.row.fetching_since == bank, "nothing is fetched again"
    assert loop.row.pretext_images == 11 * SAMPLE
    assert set(loop.queue(0)) - set(old)


def test_a_round_of_which_a_part_is_deleted_goes_on_and_its_labels_stay(loop: LoopProject) -> None:
    tasks = serve(loop, SIDE, 3 * SAMPLE)
    bank, pretext = loop.row.fetching_since, loop.row.pretext_key
    answered = loop.answer(2)
    loop.run()
    left = [task for task in loop.queue() if task not in answered]
    loop.delete(left[:2])
    loop.delete([task for task in tasks if task not in loop.queue()][:SAMPLE])
    check_whole(loop, SIDE, SIDES[0])
    assert (loop.row.fetching_since, loop.row.pretext_key, loop.round.number) == (bank, pretext, 0)
    assert [loop.stored(task)[0] for task in answered] == ["labeled", "labeled"]


def test_a_served_round_that_is_deleted_with_its_labels_is_planned_anew(loop: LoopProject) -> None:
    serve(loop, SIDE, 3 * SAMPLE)
    loop.answer(2)
    loop.run()
    asked = [ask.task_id for ask in loop.store.of(loop.id).rounds.asks(0, states=list(AskState))]
    loop.add(2 * SAMPLE)  # for the reserve may be all the rest
    loop.run()
    loop.delete([task for task in asked if task in loop.truth])
    check_whole(loop, SIDE, SIDES[0])
    assert loop.round.number == 0
    assert not set(loop.queue()) & set(asked)
    assert loop.store.of(loop.id).tasks.counts(0.0).labeled == 0


def test_a_network_of_our_own_begins_again_with_the_pool(loop: LoopProject) -> None:
    old = loop.add(SAMPLE)
    loop.connect()
    loop.run()
    key = loop.row.pretext_key
    loop.delete(old)
    loop.add(PHOTOS, LARGE)
    loop.run()
    assert (loop.row.image_side, loop.row.pretext_images, loop.round.number) == (96, PHOTOS, 0)
    assert loop.row.pretext_key != key
    assert set(loop.posted()) <= set(loop.truth)


def test_pictures_of_more_than_8_bits_are_read_by_the_range_of_the_pool_that_is_there(loop: LoopProject) -> None:
    def fill(tasks: list[int], brightest: int) -> None:
        for number, task in enumerate(tasks):
            pixels = np.full((SIDE, SIDE), brightest - number, np.uint16)
            pixels[0] = 0
            file = BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            loop.server.files[str(loop.server.projects[loop.studio.id].tasks[task].data["image"])] = file.getvalue()

    old = loop.add(SAMPLE)
    fill(old, 60_000)
    loop.connect(**WITH_ENCODER)
    loop.run()
    loop.delete(old)
    fill(loop.add(PHOTOS), 4_000)
    check_whole(loop, SIDE, SIDES[0])
    bank = ImageBank.open(open_project(loop.context, loop.id).files.bank(SIDE))
    assert (bank.ranges or {})["integer"] == (0, 4_000)


def test_a_pool_that_dribbles_in_is_measured_and_nothing_is_fetched_again(loop: LoopProject) -> None:
    serve(loop, SIDE)
    bank, drawn = loop.row.fetching_since, []
    loop.server.before = lambda request: drawn.append(request) if "/data/" in request else None
    for _ in range(6):
        loop.add(4)
        loop.run()
    check_whole(loop, SIDE, SIDES[0])
    assert loop.row.fetching_since == bank
    assert len(drawn) <= 6 * 4 + 2 * 32, "the new ones, and a sample before and behind"
