"""Addresses that are renewed, as signatures are every night: the same pixels are the same picture."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fake_encoder import use_fake_encoders
from support.loop_project import SIDE, WITH_ENCODER, LoopProject, image_of, shorten_training

from backend.autolabel.preview import preview
from backend.errors import ImageError
from backend.items.fetching import FetchedImage
from backend.loop.context import open_project
from backend.loop.steps.sync import show
from backend.status.predictions import open_predictions
from backend.store import ImageState
from model.data.bank import ImageBank
from model.data.views import ViewBank

IMAGES, ASKED = 40, 4

Renew = Callable[[str, int], str]
RENEWALS: dict[str, Renew] = {
    "S3": lambda at, night: (
        f"https://b.s3.amazonaws.com{at}?X-Amz-Date=2026010{night}T000000Z&X-Amz-Signature=a{night}"
    ),
    "GCS": lambda at, night: f"https://storage.googleapis.com/b{at}?X-Goog-Expires=3600&X-Goog-Signature=b{night}",
    "Azure": lambda at, night: f"https://a.blob.core.windows.net/c{at}?sv=2023-01-03&se=2026-01-0{night}&sig=c{night}",
    "a token": lambda at, night: f"https://images.example{at}?token={night}",
    "another bucket": lambda at, night: f"s3://bucket-{night}{at}",
    "another proxy path": lambda at, night: f"https://images.example/proxy/v{night}{at}",
}


@pytest.fixture(scope="module")
def second_round(tmp_path_factory: pytest.TempPathFactory) -> LoopProject:
    """A project with a model, whose second round is served, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        use_fake_encoders(patch)
        shorten_training(patch)
        patch.setattr("model.export.export", lambda *_, **__: None)
        made = LoopProject(tmp_path_factory.mktemp("renewed"), patch)
        made.add(IMAGES)
        made.connect(**WITH_ENCODER, holdout_fraction=0.5)
        made.run()
        made.answer(100)
        made.run()
        assert made.round.number == 1
        made.store.close()
        return made


@pytest.fixture
def loop(second_round: LoopProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = second_round.copied(tmp_path / "project", monkeypatch)
    yield made
    made.store.close()


def data_of(loop: LoopProject, task: int) -> dict[str, object]:
    return dict(loop.server.projects[loop.studio.id].tasks[task].data)


def readdress(loop: LoopProject, task: int, address: str, content: bytes | Exception | None = None) -> None:
    """Give a task's image another address, where its file is, or another one."""
    before = str(data_of(loop, task)["image"])
    loop.server.files[address] = loop.server.files[before] if content is None else content
    loop.person.call("PATCH", f"/api/tasks/{task}/", {"data": {**data_of(loop, task), "image": address}})


def renew(loop: LoopProject, renewal: Renew, night: int, tasks: list[int] | None = None) -> None:
    for task in sorted(loop.truth) if tasks is None else tasks:
        readdress(loop, task, renewal(f"/{task}.png", night))


def known(loop: LoopProject) -> dict[str, object]:
    """Return what must not change: places, losses, batches, membership, predictions, sizes on the disk."""
    project = open_project(loop.context, loop.id)
    view = project.store.tasks.pool(project.store.tasks.pool_size())
    predictions = open_predictions(project.store, project.files)
    assert predictions is not None
    return {
        "tasks": view.task_id.tolist(), "loss": view.loss.tolist(), "batch": view.batch.tolist(),
        "holdout": view.holdout.tolist(), "predictions": predictions.predict(np.arange(predictions.size)),
        "held": predictions.held.tolist(), "rest": preview(predictions, 0.0).images, "unseen": predictions.unseen,
        "bank": len(ImageBank.open(project.files.bank(SIDE))), "queue": loop.queue(), "posted": loop.posted(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", RENEWALS)
def test_a_pool_whose_addresses_are_renewed_stays_as_it_is(loop: LoopProject, kind: str) -> None:
    before = known(loop)
    for night in (1, 2):
        renew(loop, RENEWALS[kind], night)
        loop.advance()
        assert known(loop) == before, "while the images are fetched"
        ran = loop.run()
        assert "sync" in ran
        assert not {"pretext", "record", "retrain", "embed"} & set(ran)
        assert known(loop) == before
    assert loop.store.of(loop.id).tasks.counts(0).renewed == 0


def test_rounds_are_compared_over_a_night(loop: LoopProject) -> None:
    loop.add(20)  # else nothing is left that two models could agree on
    loop.run()
    loop.answer(loop.round.asked)
    renew(loop, RENEWALS["S3"], 1)
    loop.run()
    compared = loop.store.of(loop.id).rounds.get(1)
    assert compared is not None
    assert compared.holdout_change is not None, "the model before knows every image of the holdout"
    assert compared.agreement is not None
    assert loop.round.number == 2


def test_half_a_pool_is_renewed_while_a_round_is_answered(loop: LoopProject) -> None:
    before = known(loop)
    half = sorted(loop.truth)[::2]
    renew(loop, RENEWALS["GCS"], 1, half)
    answered = loop.answer(2)
    loop.run()
    after = known(loop)
    assert {name: after[name] for name in ("tasks", "loss", "batch", "bank")} == {
        name: before[name] for name in ("tasks", "loss", "batch", "bank")
    }
    assert loop.store.of(loop.id).rounds.counts(1).answered == len(answered) == 2


def test_an_address_that_is_renewed_while_it_is_fetched_is_fetched_once_more(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = known(loop)
    monkeypatch.setattr("backend.loop.steps.shards.COMMIT_IMAGES", 8)
    renew(loop, RENEWALS["S3"], 1)
    again = sorted(loop.truth)[:10]
    left = list(again)

    def renew_once_more(request: str) -> None:
        if left and request.startswith("GET https"):
            task = left.pop()
            readdress(loop, task, RENEWALS["S3"](f"/{task}.png", 2))

    loop.server.before = renew_once_more
    loop.run()
    assert not left
    assert known(loop) == before
    references = dict(loop.store.of(loop.id).tasks.references(again))
    assert all("2026010" in reference and reference.endswith("a2") for reference in references.values())


def test_an_address_that_is_renewed_in_a_first_sync_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_encoders(monkeypatch)
    monkeypatch.setattr("backend.loop.steps.shards.COMMIT_IMAGES", 8)
    loop = LoopProject(tmp_path, monkeypatch)
    loop.add(20)
    loop.connect(**WITH_ENCODER)
    left = sorted(loop.truth)[:10]

    def renew_meanwhile(request: str) -> None:
        if left and request.startswith("GET /data/"):
            task = left.pop()
            readdress(loop, task, RENEWALS["Azure"](f"/{task}.png", 1))

    loop.server.before = renew_meanwhile
    loop.run()
    assert not left
    assert loop.store.of(loop.id).tasks.counts(0).ok == 20
    assert len(ImageBank.open(open_project(loop.context, loop.id).files.bank(SIDE))) == 20
    loop.store.close()


@pytest.mark.parametrize("same_address", [False, True])
def test_a_task_that_is_edited_to_another_image_gets_it(loop: LoopProject, same_address: bool) -> None:
    before, task = known(loop), loop.queue()[0]
    index = loop.store.of(loop.id).tasks.pool_indices([task])[task]
    other = image_of("left", np.random.default_rng(99))
    if same_address:  # the file behind a signed address was replaced, and the signature renewed
        readdress(loop, task, RENEWALS["S3"](f"/{task}.png", 1))
        loop.run()
        assert known(loop) == before
    readdress(loop, task, RENEWALS["S3"](f"/{task}.png", 2), other)
    loop.run()
    moved = loop.store.of(loop.id).tasks.pool_indices([task])[task]
    assert moved == IMAGES != index, "another picture, another place"
    project = open_project(loop.context, loop.id)
    bank = ImageBank.open(project.files.bank(SIDE))
    np.testing.assert_array_equal(bank.array[moved], np.asarray(Image.open(BytesIO(other))))
    view = project.store.tasks.pool(len(bank))
    assert np.isfinite(view.loss[moved])
    assert view.batch[moved] >= 0
    others = [one for one in range(IMAGES) if one != index]
    assert view.loss[others].tolist() == [before["loss"][one] for one in others]  # type: ignore[index]


def test_tasks_that_are_deleted_and_imported_again_take_their_places(loop: LoopProject) -> None:
    before = known(loop)
    tasks = sorted(loop.truth)
    contents = [loop.server.files[str(data_of(loop, task)["image"])] for task in tasks]
    for task in tasks:
        loop.person.delete_task(task)
    addresses = [RENEWALS["GCS"](f"/{task}.png", 3) for task in tasks]
    loop.server.files.update(zip(addresses, contents, strict=True))
    loop.person.import_tasks(loop.studio.id, [{"data": {"image": address}} for address in addresses])
    loop.truth = dict(zip(sorted(loop.server.projects[loop.studio.id].tasks), loop.truth.values(), strict=True))
    loop.run()
    after = known(loop)
    assert after["bank"] == before["bank"]
    assert after["predictions"] == before["predictions"]
    assert sorted(after["tasks"]) == sorted(loop.truth)  # type: ignore[arg-type]
    places = loop.store.of(loop.id).tasks.pool_indices(sorted(loop.truth))
    old = {task: index for index, task in enumerate(before["tasks"])}  # type: ignore[arg-type]
    assert [places[task] for task in sorted(loop.truth)] == [old[task] for task in tasks]


def test_a_renewed_address_without_a_file_is_named_and_comes_back(loop: LoopProject) -> None:
    before, (first, second, *_) = known(loop), sorted(loop.truth)
    readdress(loop, first, "https://images.example/gone.png", ImageError("403 Forbidden"))
    loop.run()
    assert loop.state_of(first) == ImageState.BROKEN
    assert loop.state_of(second) == ImageState.OK
    loop.server.files["https://images.example/back.png"] = image_file(loop, before, first)
    loop.person.call(
        "PATCH", f"/api/tasks/{first}/", {"data": {**data_of(loop, first), "image": "https://images.example/back.png"}}
    )
    loop.run()
    assert known(loop) == before


def image_file(loop: LoopProject, before: dict[str, object], task: int) -> bytes:
    index = before["tasks"].index(task)  # type: ignore[attr-defined]
    bank = ImageBank.open(open_project(loop.context, loop.id).files.bank(SIDE))
    file = BytesIO()
    Image.fromarray(bank.array[index]).save(file, "PNG")
    return file.getvalue()


def test_a_script_that_replaces_all_data_has_loss_and_batch_written_again(loop: LoopProject) -> None:
    before, task = known(loop), min(loop.truth)
    loss = data_of(loop, task)["pretext_loss"]
    address = RENEWALS["S3"](f"/{task}.png", 1)
    loop.server.files[address] = loop.server.files[str(data_of(loop, task)["image"])]
    loop.person.call("PATCH", f"/api/tasks/{task}/", {"data": {"image": address}})
    loop.run()
    assert data_of(loop, task)["pretext_loss"] == loss
    assert known(loop) == before


def test_a_bank_of_an_earlier_release_needs_no_digests_for_it(loop: LoopProject) -> None:
    before = known(loop)
    project = open_project(loop.context, loop.id)
    (project.files.bank(SIDE) / "digests.bin").unlink()
    renew(loop, RENEWALS["S3"], 1)
    loop.run()
    assert known(loop) == before


def test_the_same_picture_at_another_size_is_shown_at_that_size(tmp_path: Path) -> None:
    views, pixels = ViewBank.create(tmp_path, 8), np.zeros((8, 8, 3), np.uint8)
    small, large = (FetchedImage(1, pixels, size=size, view=pixels) for size in ((8, 6), (80, 60)))
    for image in (small, small, large):
        show(views, np.array([0]), [image])
        assert tuple(views.sizes(np.array([0]))[0]) == image.size
