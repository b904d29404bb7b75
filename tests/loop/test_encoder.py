"""The loop with an encoder: features on arrival, a first round before any loss is known, losses behind it."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save
from support.fake_encoder import OTHER, FakeEncoder, use_fake_encoders
from support.loop_project import SIDE, WITH_ENCODER, LoopProject, shorten_training

from backend.errors import ImageError
from backend.loop import jobs
from backend.loop.context import OpenProject, open_project
from backend.loop.decide import Step
from backend.loop.facts import Facts
from backend.loop.steps.features import Encoders
from backend.status.status import read_status
from backend.store import AskRole, AskState, RoundState
from model.data.decoding import decode
from model.data.features import FeatureBank
from model.encoders.registry import DEFAULT, SIDES
from model.errors import WeightsMissing
from model.learners import registry
from model.querying.outputs import FloatArray, IntArray

IMAGES, ASKED = 40, 4
LARGE = SIDES[0]  # pixels of the encoder's images: those of the tests are small


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The encoders that were opened: name and side."""
    return use_fake_encoders(monkeypatch)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[tuple[str, int]]) -> Iterator[LoopProject]:
    """A project before it is connected; nothing is exported."""
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = LoopProject(tmp_path, monkeypatch)
    made.add(IMAGES)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def first_round(tmp_path_factory: pytest.TempPathFactory) -> LoopProject:
    """A project whose first round is served, and whose losses are recorded, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        use_fake_encoders(patch)
        made = LoopProject(tmp_path_factory.mktemp("served"), patch)
        made.add(IMAGES)
        made.connect(**WITH_ENCODER)
        made.run()
        made.store.close()
        return made


@pytest.fixture
def serving(
    first_round: LoopProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[tuple[str, int]]
) -> Iterator[LoopProject]:
    """A project of its own whose first round is served, and whose losses are recorded; nothing is exported."""
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = first_round.copied(tmp_path / "project", monkeypatch)
    yield made
    made.store.close()


def project_of(loop: LoopProject) -> OpenProject:
    return open_project(loop.context, loop.id)


def run_until_served(loop: LoopProject) -> list[str]:
    """Run job by job until a round is served; return them."""
    ran: list[str] = []
    while loop.store.of(loop.id).rounds.current() is None or loop.round.state != RoundState.LIVE:
        job = loop.queueing.run_next()
        assert job is not None, "nothing waits, and nothing is served"
        ran.append(job)
    return ran


def work(ran: list[str]) -> list[str]:
    return [job for job in ran if job not in ("advance", "twins")]


def uploaded(loop: LoopProject, task: int) -> bytes:
    file = loop.server.files[str(loop.server.projects[loop.studio.id].tasks[task].data["image"])]
    assert isinstance(file, bytes)
    return file


def check_features(loop: LoopProject, name: str = DEFAULT, factor: float = 1.0, known: set[int] | None = None) -> None:
    """Compare features and activations of every image, or of the tasks ``known``, with those of its upload."""
    project = project_of(loop)
    key = project.row.features_key
    assert key == f"{name.replace(':', '-')}-{LARGE}"
    bank = FeatureBank.open(project.files.features(key))
    assert (bank.encoder, bank.side) == (name, LARGE)
    view = project.store.tasks.pool(project.store.tasks.pool_size())
    indices = np.flatnonzero(view.task_id >= 0)
    assert set(view.task_id[indices]) == (set(loop.truth) if known is None else known)
    assert bank.knows(indices).all()
    images = np.stack([decode(uploaded(loop, task), LARGE) for task in view.task_id[indices]])
    features, activations = FakeEncoder(name, LARGE, factor).activate(images)
    np.testing.assert_array_equal(bank.gather(indices), features)
    kept = FeatureBank.open(project.files.activations(key))
    assert (kept.encoder, kept.side, kept.dim) == (name, LARGE, FakeEncoder.activations)
    assert kept.knows(indices).all()
    np.testing.assert_array_equal(kept.gather(indices), activations)


def check_losses(loop: LoopProject) -> None:
    """Have every image a loss and a batch, in store and Label Studio."""
    counts = loop.store.of(loop.id).tasks.counts(0)
    assert (counts.ok, counts.unscored, counts.unsplit, counts.unrecorded) == (len(loop.truth), 0, 0, 0)
    data = [task.data for task in loop.studio.tasks.by_id(sorted(loop.truth))]
    assert len(data) == len(loop.truth)
    assert all(one["pretext_loss"] > 0 and 0 <= one["pretext_batch"] < 4 for one in data)


def test_a_first_round_by_losses_waits_for_them(loop: LoopProject) -> None:
    loop.connect(**WITH_ENCODER, first_query="top", batch_order="high_first")
    assert work(run_until_served(loop)) == ["sync", "pretext"]
    pool = loop.store.of(loop.id).tasks.pool(IMAGES)
    hardest = pool.task_id[np.argsort(-pool.loss, kind="stable")[:ASKED]]
    asks = loop.store.of(loop.id).rounds.asks(0, states=list(AskState))
    assert {ask.task_id for ask in asks if ask.role == AskRole.QUERY} == set(hardest.tolist())


def test_the_first_round_is_served_before_any_loss_is_known(loop: LoopProject) -> None:
    loop.connect(**WITH_ENCODER)
    assert work(run_until_served(loop)) == ["sync"]
    counts = loop.store.of(loop.id).tasks.counts(0)
    assert (counts.ok, counts.unscored) == (IMAGES, IMAGES)
    check_features(loop)
    queue = loop.queue()
    assert len(queue) == ASKED
    assert loop.answer(ASKED) == queue
    assert {loop.truth[task] for task in queue} == {"left", "right"}, "they stand for the pool"


def test_losses_and_batches_come_behind_the_first_round(serving: LoopProject) -> None:
    assert work(serving.queueing.ran) == ["sync", "pretext", "record"]
    check_losses(serving)
    view = serving.store.of(serving.id).tasks.pool(IMAGES)
    assert np.bincount(view.batch).tolist() == [10] * 4
    assert serving.row.error is None
    assert not list(project_of(serving).files.folder.glob("ways-up-*"))


def test_two_rounds_learn_a_head_on_the_features_and_note_it(serving: LoopProject) -> None:
    batches = {}
    for number in range(2):
        serving.answer(ASKED)
        assert work(serving.run()) == ["retrain", "export"]
        assert (serving.round.number, serving.round.state) == (number + 1, RoundState.LIVE)
        batches[number + 1] = serving.queue()
    rounds = serving.store.of(serving.id).rounds.all()
    assert [row.labels for row in rounds] == [4, 8, None]
    assert [row.learner and row.learner["learner"] for row in rounds] == ["linear", "linear", None]
    assert rounds[1].learner["features"] in {"both", "last", "last+mid"}
    assert set(rounds[1].learner["likelihood"]) == {"both", "last", "last+mid"}
    view = serving.store.of(serving.id).tasks.pool(IMAGES)
    batch_of = dict(zip(view.task_id.tolist(), view.batch.tolist(), strict=True))
    assert {number: {batch_of[task] for task in queue} for number, queue in batches.items()} == {1: {1}, 2: {2}}
    predictions = np.load(project_of(serving).files.probs(1)).argmax(axis=1)
    right = [("left", "right")[predictions[index]] == serving.truth[task] for index, task in enumerate(view.task_id)]
    assert np.mean(right) > 0.95, "the halves are easy to tell by these features"


def test_a_round_that_is_answered_before_there_are_batches_asks_from_the_whole_pool(loop: LoopProject) -> None:
    loop.connect(**WITH_ENCODER)
    run_until_served(loop)
    loop.answer(ASKED)
    project = project_of(loop)
    jobs.JOBS[jobs.JobKind.RETRAIN].call(loop.context, project, lambda share: None)
    loop.advance()
    assert (loop.round.number, loop.round.state) == (1, RoundState.LIVE)
    assert loop.store.of(loop.id).tasks.counts(0).unsplit == 0
    assert loop.store.of(loop.id).tasks.counts(0).unscored == IMAGES
    assert len(set(loop.queue()) - set(loop.queue(0))) == ASKED


def test_the_first_queue_of_a_large_pool_comes_from_drawn_images_while_the_others_arrive(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.loop.facts.PATIENCE_S", 0.0)
    monkeypatch.setattr("backend.loop.steps.sync.PATIENCE_S", 0.0)
    monkeypatch.setattr("backend.loop.steps.shards.COMMIT_IMAGES", 16)
    loop.add(160)
    loop.connect(**WITH_ENCODER)
    assert work(run_until_served(loop)) == ["sync"]
    store = loop.store.of(loop.id)
    assert store.tasks.counts(0).ok == 16
    first = set(store.tasks.pool(16).task_id.tolist())
    halves = [len([task for task in first if (task > np.median(list(loop.truth))) == half]) for half in (False, True)]
    assert min(halves) >= 4, "they are drawn from the whole pool"
    assert set(loop.queue()) <= first
    assert loop.answer(2) == loop.queue()[:2]
    assert work(loop.run()) == ["sync", "pretext", "record"]
    check_losses(loop)
    check_features(loop)


def test_a_first_queue_waits_for_all_images_of_a_pool_that_is_soon_there(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.loop.steps.shards.COMMIT_IMAGES", 16)
    loop.connect(**WITH_ENCODER)
    run_until_served(loop)
    assert loop.store.of(loop.id).tasks.counts(0).ok == IMAGES


def test_new_images_get_features_losses_and_a_batch(serving: LoopProject) -> None:
    more = serving.add(10)
    assert {"sync", "pretext", "record"} == set(work(serving.run()))
    assert serving.round.number == 0
    check_features(serving)
    check_losses(serving)
    for _ in range(4):
        serving.answer(ASKED)
        serving.run()
    asked = {task for number in range(serving.round.number + 1) for task in serving.posted_ever(number)}
    assert asked & set(more)


def test_a_pretext_task_of_its_own_network_comes_behind_the_first_round(loop: LoopProject) -> None:
    loop.connect(**WITH_ENCODER, pretext="jigsaw")
    assert work(run_until_served(loop)) == ["sync"]
    loop.run()
    check_losses(loop)


# What was lost, damaged or changed


def lose(loop: LoopProject) -> None:
    shutil.rmtree(project_of(loop).files.features(f"{DEFAULT}-{LARGE}"))


def damage(loop: LoopProject) -> None:
    (project_of(loop).files.features(f"{DEFAULT}-{LARGE}") / "features.bin").write_bytes(b"")


def damage_header(loop: LoopProject) -> None:
    (project_of(loop).files.features(f"{DEFAULT}-{LARGE}") / "features.json").write_text("{")


def lose_activations(loop: LoopProject) -> None:
    shutil.rmtree(project_of(loop).files.activations(f"{DEFAULT}-{LARGE}"))


def damage_activations(loop: LoopProject) -> None:
    (project_of(loop).files.activations(f"{DEFAULT}-{LARGE}") / "features.bin").write_bytes(b"")


HARM = [lose, damage, damage_header, lose_activations, damage_activations]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("growing", [False, True], ids=["", "while images arrive"])
def test_features_that_are_lost_or_damaged_are_made_again(serving: LoopProject, harm, growing: bool) -> None:
    queue = serving.queue()
    harm(serving)
    if growing:
        serving.add(5)
    assert "embed" in serving.run()
    check_features(serving)
    assert serving.queue() == queue
    serving.answer(ASKED)
    serving.run()
    assert (serving.round.number, serving.round.state, serving.row.error) == (1, RoundState.LIVE, None)


def test_another_encoder_embeds_the_images_again_and_deletes_the_features_of_the_first(serving: LoopProject) -> None:
    serving.answer(ASKED)
    serving.run()
    labels, queue = [serving.stored(task) for task in serving.queue(0)], serving.queue()
    serving.setup(**WITH_ENCODER, encoder=OTHER)
    assert work(serving.run()) == ["embed", "pretext", "record"]
    check_features(serving, OTHER, 2.0)
    check_losses(serving)
    assert [serving.stored(task) for task in serving.queue(0)] == labels
    assert serving.queue() == queue, "a round that is served stays"
    files = project_of(serving).files
    assert [*files.folder.glob("features-*")] == [files.features(f"timm-other-{LARGE}")]
    assert [*files.folder.glob("activations-*")] == [files.activations(f"timm-other-{LARGE}")]
    serving.answer(ASKED)
    serving.run()
    assert serving.round.number == 2
    assert serving.store.of(serving.id).rounds.get(1).labels == 2 * ASKED


def test_new_losses_that_come_before_the_old_batches_are_forgotten_leave_no_round_without_images(
    serving: LoopProject,
) -> None:
    serving.answer(ASKED)
    serving.setup(**WITH_ENCODER, seed=1)
    # While another job of the project is at work, nothing is forgotten; the trainings go on.
    for kind in (jobs.JobKind.PRETEXT, jobs.JobKind.RETRAIN):
        jobs.JOBS[kind].call(serving.context, project_of(serving), lambda share: None)
    assert serving.store.of(serving.id).tasks.counts(0).unsplit == IMAGES
    jobs.take_step(serving.context, serving.id, Step.PLAN, Facts())
    assert len(serving.queue(1)) == ASKED
    serving.run()
    check_losses(serving)


def test_images_whose_source_is_gone_are_embedded_as_the_bank_has_them(serving: LoopProject) -> None:
    gone = sorted(serving.truth)[:3]
    images = {task: decode(uploaded(serving, task), SIDE) for task in gone}
    for task in gone:
        reference = str(serving.server.projects[serving.studio.id].tasks[task].data["image"])
        serving.server.files[reference] = ImageError("Label Studio answered 404 Not Found")
    lose(serving)
    serving.run()
    project = project_of(serving)
    bank = FeatureBank.open(project.files.features(project.row.features_key))
    view = project.store.tasks.pool(IMAGES)
    assert bank.knows(np.arange(IMAGES)).all()
    for task in gone:
        [row] = bank.gather(np.flatnonzero(view.task_id == task))
        halves = row[:16].reshape(4, 4).mean(axis=0)
        small = images[task].mean(axis=(0, 2)).reshape(4, SIDE // 4).mean(axis=1) / 64
        np.testing.assert_allclose(halves, small, atol=0.1)
    assert serving.store.of(serving.id).tasks.counts(0).ok == IMAGES, "none is set aside"


def test_a_lost_bank_takes_its_features_along_and_both_are_made_again(serving: LoopProject) -> None:
    serving.answer(ASKED)
    serving.run()
    shutil.rmtree(project_of(serving).files.bank(SIDE))
    assert work(serving.run()) == ["sync", "pretext", "record"]
    check_features(serving)
    check_losses(serving)
    assert serving.round.number == 1
    serving.answer(ASKED)
    serving.run()
    assert serving.round.number == 2
    assert serving.store.of(serving.id).rounds.get(1).labels == 2 * ASKED


def test_a_project_of_an_older_release_goes_on_under_the_encoder_with_all_its_labels(
    loop: LoopProject, opened: list[tuple[str, int]]
) -> None:
    loop.connect()
    loop.run()
    loop.answer(ASKED)
    loop.run()
    assert opened == []
    first, second = loop.queue(0), loop.queue()
    assert (loop.row.features_key, loop.round.number) == (None, 1)
    loop.store.projects.set(loop.id, encoder_side=None, fetching_since=None)  # as revision 0008 leaves it
    loop.setup(**WITH_ENCODER)
    assert work(loop.run()) == ["embed", "pretext", "record"]
    check_features(loop)
    check_losses(loop)
    assert loop.queue() == second, "a round that is being labeled is finished first"
    assert all(loop.stored(task) == ("labeled", loop.truth[task]) for task in first)
    loop.answer(ASKED)
    loop.run()
    rounds = loop.store.of(loop.id).rounds.all()
    assert [row.labels for row in rounds] == [4, 8, None]
    assert [row.learner and row.learner["learner"] for row in rounds] == ["own", "linear", None]
    assert loop.round.state == RoundState.LIVE


def test_a_project_that_goes_back_to_a_network_of_its_own_asks_new_images_too(serving: LoopProject) -> None:
    serving.answer(ASKED)
    serving.run()
    serving.setup()
    more = serving.add(10)
    serving.run()
    lose(serving)  # nobody needs them any more
    serving.answer(ASKED)
    serving.run()
    assert (serving.round.number, serving.round.state) == (2, RoundState.LIVE)
    assert serving.store.of(serving.id).rounds.get(1).learner["learner"] == "own"
    asks = serving.store.of(serving.id).rounds.asks(2, states=list(AskState))
    assert {ask.task_id for ask in asks} >= set(more), "the reserve is larger than the pool"


# Activations


def test_a_project_that_has_no_activations_yet_gets_them_and_keeps_its_features(
    serving: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[int, int] = {}
    plain = FeatureBank.write
    lose_activations(serving)

    def write(bank: FeatureBank, indices: IntArray, rows: FloatArray) -> None:
        written[bank.dim] = written.get(bank.dim, 0) + len(indices)
        plain(bank, indices, rows)

    monkeypatch.setattr(FeatureBank, "write", write)
    serving.answer(ASKED)
    ran = work(serving.run())
    assert {"retrain", "embed"} <= set(ran)
    assert serving.round.number == 1
    check_features(serving)
    assert written == {FakeEncoder.activations: IMAGES, FakeEncoder.dim: 0}, "features that are there stay"


def test_a_pool_that_has_become_too_large_for_activations_has_none(
    serving: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_ACTIVATED", IMAGES + 5)
    serving.add(10)
    serving.run()
    files = project_of(serving).files
    assert [*files.folder.glob("activations-*")] == []
    assert len(FeatureBank.open(files.features(f"{DEFAULT}-{LARGE}"))) == IMAGES + 10
    serving.answer(ASKED)
    assert "embed" not in serving.run()
    assert (serving.round.number, serving.row.error) == (1, None)


def test_a_project_whose_learner_reads_no_activations_keeps_none(loop: LoopProject) -> None:
    loop.connect(**WITH_ENCODER, learner="linear")
    loop.run()
    assert [*project_of(loop).files.folder.glob("activations-*")] == []
    loop.answer(ASKED)
    loop.run()
    loop.setup(**WITH_ENCODER, learner="finetune")
    loop.answer(ASKED)
    loop.run()
    check_features(loop)
    rounds = loop.store.of(loop.id).rounds.all()
    assert [row.learner and row.learner["learner"] for row in rounds] == ["linear", "finetune", None]
    assert loop.round.state == RoundState.LIVE


@pytest.mark.parametrize("learner", ["finetune", "auto"])
def test_an_encoder_whose_last_block_cannot_be_separated_is_said_where_it_is_needed(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch, learner: str
) -> None:
    monkeypatch.setattr(FakeEncoder, "activations", 0)
    loop.connect(**WITH_ENCODER, learner=learner)
    loop.run()
    if learner == "auto":
        loop.answer(ASKED)
        assert "embed" not in loop.run()
        assert (loop.round.number, loop.row.error) == (1, None)
        return
    said = read_status(loop.store, loop.row).error
    assert said is not None
    assert "the last block of 'efficientnet_lite0' cannot be separated" in said
    assert 'set "learner": "linear"' in said
    loop.setup(**WITH_ENCODER, learner="linear")
    loop.store.of(loop.id).jobs.retry_now()
    loop.run()
    assert (loop.round.state, loop.row.error) == (RoundState.LIVE, None)


# Weights


def test_missing_weights_are_said_before_anything_is_trained(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = f"the weights of 'timm:other' are not here: put 'model.safetensors' at encoders/{OTHER}"
    plain = Encoders.open

    def missing(encoders: Encoders, name: str, side: int) -> None:
        raise WeightsMissing(sentence)

    monkeypatch.setattr(Encoders, "open", missing)
    loop.connect(**WITH_ENCODER, encoder=OTHER)
    assert work(loop.run()) == ["sync"]
    assert sentence in read_status(loop.store, loop.row).error
    assert loop.store.of(loop.id).tasks.counts(0).new == IMAGES
    monkeypatch.setattr(Encoders, "open", plain)
    loop.store.of(loop.id).jobs.retry_now()
    loop.run()
    assert (loop.round.state, loop.row.error) == (RoundState.LIVE, None)
    check_features(loop, OTHER, 2.0)


@pytest.mark.slow
def test_weights_that_were_put_into_the_folder_by_hand_embed_and_damaged_ones_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "test_efficientnet"
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    loop = LoopProject(tmp_path, monkeypatch)
    loop.add(IMAGES)
    (tmp_path / "encoders").mkdir()
    path = tmp_path / "encoders" / f"{name}.safetensors"
    path.write_bytes(b"half of a download")
    loop.connect(**WITH_ENCODER, encoder=f"timm:{name}")
    loop.run()
    said = read_status(loop.store, loop.row).error
    assert f"{path} does not hold the weights of {name}" in said
    assert "\n" not in said
    torch.manual_seed(0)
    path.write_bytes(save(timm.create_model(name, pretrained=False).state_dict()))
    loop.store.of(loop.id).jobs.retry_now()
    loop.run()
    assert loop.row.features_key == f"timm-{name}-{LARGE}"
    loop.answer(ASKED)
    loop.run()
    assert (loop.round.number, loop.round.state, loop.row.error) == (1, RoundState.LIVE, None)
    check_losses(loop)
    loop.store.close()


def test_missing_weights_of_another_encoder_stop_neither_the_queue_nor_lose_anything(
    serving: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Encoders.open

    def missing(encoders: Encoders, name: str, side: int) -> FakeEncoder:
        if name == OTHER:
            raise WeightsMissing("the weights of 'timm:other' are not here")
        return plain(encoders, name, side)

    monkeypatch.setattr(Encoders, "open", missing)
    serving.setup(**WITH_ENCODER, encoder=OTHER)
    serving.run()
    assert "the weights of 'timm:other' are not here" in read_status(serving.store, serving.row).error
    assert len(serving.answer(ASKED)) == ASKED
    serving.setup(**WITH_ENCODER)
    serving.store.of(serving.id).jobs.retry_now()
    serving.run()
    check_features(serving)
    check_losses(serving)
    assert (serving.round.number, serving.round.state, serving.row.error) == (1, RoundState.LIVE, None)


# Making way


def test_losses_make_way_for_a_training_and_go_on_where_they_were(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.loop.steps.pretext.SCORED", 8)
    monkeypatch.setattr("model.pretext.on_encoder.CHUNK", 8)
    embedded: list[int] = []
    plain = FakeEncoder.embed

    def embed(encoder: FakeEncoder, images: np.ndarray) -> np.ndarray:
        if encoder.side != LARGE:
            embedded.append(len(images))
        return plain(encoder, images)

    monkeypatch.setattr(FakeEncoder, "embed", embed)
    loop.connect(**WITH_ENCODER)
    run_until_served(loop)
    monkeypatch.setattr(loop.queueing, "depth", lambda queue="io": 1)  # another training always waits
    turns = 0
    while loop.store.of(loop.id).tasks.counts(0).unscored:
        turns += loop.queueing.run_next() == "pretext"
        assert turns < 20
    assert turns == IMAGES // 8 + IMAGES // 8 - 1, "each turn embeds or scores 8 images; the last fits the heads, too"
    assert sum(embedded) == 4 * IMAGES, "no image is embedded twice"


def test_a_training_goes_before_the_losses_that_make_way(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.loop.steps.pretext.SCORED", 8)
    loop.connect(**WITH_ENCODER)
    run_until_served(loop)
    loop.answer(ASKED)
    ran = work(loop.run())
    assert ran.index("retrain") < len(ran) - 1 - ran[::-1].index("pretext")
    assert loop.round.number == 1
    check_losses(loop)


# Tasks that nobody has scored


def test_a_task_that_the_model_has_not_seen_is_embedded_and_scored(serving: LoopProject) -> None:
    serving.answer(ASKED)
    serving.run()
    tasks = serving.add(6)
    rows = jobs.score_tasks(serving.id, tasks, time.time() + 60)
    assert {int(task): prediction for task, (prediction, _) in rows.items()} == {
        task: serving.truth[task] for task in tasks
    }
    assert all(0.5 < confidence <= 1 for _, confidence in rows.values())
    assert serving.store.of(serving.id).tasks.pool_size() == IMAGES, "they are in no bank yet"


def test_a_task_is_scored_by_the_model_of_before_while_another_encoder_embeds(serving: LoopProject) -> None:
    serving.answer(ASKED)
    serving.run()
    serving.setup(**WITH_ENCODER, encoder=OTHER)
    [task] = serving.add(1)
    rows = jobs.score_tasks(serving.id, [task], time.time() + 60)
    assert rows[str(task)][0] == serving.truth[task]
