"""Every strategy that the extra params accept, through the steps that train, score and plan: without Label Studio."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.offline_project import CLASSES, CONFIG, IMAGES, SIDE, K, Project

from backend.config import CHOICES
from backend.errors import Superseded
from backend.loop.advance import gather_facts
from backend.loop.decide import Step, next_step
from backend.loop.facts import JobKind, StaleReason
from backend.loop.keys import pretext_key
from backend.loop.steps.bank import open_bank
from backend.loop.steps.pretext import restart
from backend.store import AskRole, AskState, RoundRow, RoundState
from model.pretext import run
from model.problems import problem
from model.querying.samplers import samplers_for
from model.training import recipes

SAMPLERS = samplers_for(problem("single_label"))


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Real training, of few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, "auto", replace(recipes.RECIPES["auto"], steps=6, recalibrate=32))
        patch.setitem(run.PRETEXT_RECIPES, "auto", replace(run.PRETEXT_RECIPES["auto"], tiny_epochs=1))
        yield


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory, short: None) -> Path:
    """The folder of a project whose round 0 is asked and answered."""
    folder = tmp_path_factory.mktemp("answered")
    project = Project(folder)
    project.job(JobKind.PRETEXT)
    project.step(Step.SPLIT)
    project.step(Step.PLAN)
    project.answer(0)
    project.store.close()
    return folder


@pytest.fixture
def project(answered: Path, tmp_path: Path) -> Iterator[Project]:
    """A project of its own whose round 0 is answered."""
    made = Project(shutil.copytree(answered, tmp_path / "project"))
    yield made
    made.store.close()


def test_every_first_query_of_the_extra_params_plans_round_zero(project: Project, caplog: pytest.LogCaptureFixture):
    queries = {}
    names = [name for name in CHOICES["first_query"] if name != "auto"]
    for name in names:
        project.store.of(project.key).rounds.forget()
        project.configure(first_query=name)
        project.job(JobKind.PRETEXT)
        project.step(Step.PLAN)
        queries[name] = project.asked(0)
        project.step(Step.EXTEND)
    assert "asking by" not in caplog.text
    assert {len(asked) for asked in queries.values()} == {K + 1}  # one of them is holdout
    assert len({tuple(asked) for asked in queries.values()}) >= len(queries) - 1  # two small ones may coincide


@pytest.mark.parametrize(
    ("name", "joint"),
    [
        *((name, "none") for name in SAMPLERS),
        *(("learning_loss", joint) for joint in CHOICES["joint"][1:]),
    ],
)
def test_every_sampler_of_the_extra_params_plans_the_round_after_a_training(
    project: Project, caplog: pytest.LogCaptureFixture, name: str, joint: str
):
    shares: list[float] = []
    project.configure(sampler=name, joint=joint)
    project.retrain(shares.append)
    current = project.store.of(project.key).rounds.current()
    assert (current.number, current.state) == (1, RoundState.PLANNED)
    assert len(project.asked(1)) == K + 1
    assert not set(project.asked(1)) & set(project.asked(0))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    project.add(5)  # images that the model has not seen: more reserve is found all the same
    project.step(Step.EXTEND)
    assert "asking by" not in caplog.text


def test_a_sampler_chosen_after_the_training_waits_for_the_next(project: Project, caplog: pytest.LogCaptureFixture):
    project.configure()
    project.retrain()
    project.configure(sampler="vaal")
    project.step(Step.EXTEND)
    assert "no labeled_probability for 'vaal' yet; asking by 'least_confidence'" in caplog.text


def test_a_first_query_chosen_after_the_pretext_training_waits_for_its_features(
    project: Project, caplog: pytest.LogCaptureFixture
):
    project.store.of(project.key).rounds.forget()
    work = project.configure(first_query="kmeans")
    next(work.files.folder.glob("pretext-*-embeddings.npy")).unlink()  # an even first query would not have left them
    project.step(Step.PLAN)
    assert "no pretext_embeddings for 'kmeans' yet; asking by 'even'" in caplog.text
    assert len(project.asked(0)) == K + 1


def test_features_of_later_images_are_added_and_those_of_a_forgotten_pretext_model_deleted(project: Project):
    work = project.configure(first_query="typical")
    project.job(JobKind.PRETEXT)
    path = next(work.files.folder.glob("pretext-*-embeddings.npy"))
    before = np.load(path)
    project.add(5)
    project.job(JobKind.PRETEXT)
    after = np.load(path)
    assert (len(before), len(after)) == (IMAGES, IMAGES + 5)
    np.testing.assert_array_equal(after[:IMAGES], before)
    opened = project.open()
    restart(opened.store, opened.files, opened.config, StaleReason.OUTGROWN)
    assert not path.exists()


def test_two_models_are_compared_on_images_that_both_have_seen(project: Project):
    as_many = {"holdout_fraction": 1.0}
    project.configure(**as_many)
    project.retrain()
    project.answer(1)
    project.retrain()
    both = project.store.of(project.key).rounds.get(1)
    assert both.holdout_size > 0
    assert both.holdout_change == both.holdout_quality - right_before(project, 0, both)
    assert both.holdout_squares == both.holdout_quality == int(both.holdout_quality), "each image is right or wrong"
    assert abs(both.holdout_change) <= both.holdout_change_squares <= both.holdout_size
    project.add(IMAGES)
    project.job(JobKind.PRETEXT)
    project.step(Step.SPLIT)
    project.store.of(project.key).rounds.drop(2)
    project.step(Step.PLAN)
    asks = project.store.of(project.key).rounds.asks(2, states=list(AskState))
    held = [ask.task_id for ask in asks if ask.role == AskRole.HOLDOUT]
    assert max(held) > IMAGES, "an image that the model before has not seen"
    project.answer(2)
    project.retrain()
    later = project.store.of(project.key).rounds.get(2)
    assert later.holdout_size > both.holdout_size
    assert (later.holdout_change, later.holdout_change_squares) == (None, None)


def right_before(project: Project, number: int, row: RoundRow) -> int:
    """Count the holdout images of a round that an earlier round's model is right about."""
    probs = np.load(project.open().files.output(number, "probs"))
    held = [index for index, _, holdout in project.store.of(project.key).tasks.targets() if holdout]
    assert len(held) == row.holdout_size
    return int((probs[held].argmax(axis=1) == project.truth[held]).sum())


def test_a_round_goes_on_from_the_weights_of_the_last_one(project: Project):
    project.configure(init="previous")
    project.retrain()
    project.answer(1)
    project.retrain()
    rounds = project.store.of(project.key).rounds
    assert [rounds.get(number).learner["init"] for number in (0, 1)] == ["scratch", "previous"]


def test_epochs_are_as_configured_and_train_anew_only_what_they_change(project: Project):
    changes = ({}, {"epochs": 3}, {"pretext_epochs": 2}, {"pretext_seconds": 2})
    keys = [pretext_key(project.configure(**more).config, SIDE) for more in changes]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    project.configure(epochs=3)
    assert project.open().config.epochs == 3
    project.retrain()
    note = json.loads(project.open().files.trained(0).read_text())
    project.configure(epochs=4)
    project.store.of(project.key).rounds.drop(1)
    project.store.of(project.key).rounds.set(0, state=RoundState.LIVE)
    project.retrain()
    assert json.loads(project.open().files.trained(0).read_text())["identity"] != note["identity"]


def test_a_class_that_is_added_after_a_training_is_asked_like_any_other(project: Project):
    project.configure(sampler="class_balanced")
    project.retrain()
    wider = CONFIG.replace("</Choices>", '<Choice value="above"/></Choices>')
    project.store.projects.set(project.key, label_config=wider)
    project.store.of(project.key).rounds.drop(1)
    project.step(Step.PLAN)
    assert len(project.asked(1)) == K + 1
    project.answer(1)
    project.retrain()
    assert project.store.of(project.key).rounds.get(1).classes == [*CLASSES, "above"]


@pytest.mark.parametrize("how", ["lost", "damaged", "older"])
def test_a_bank_that_does_not_hold_what_the_store_says_is_filled_again(tmp_path: Path, how: str) -> None:
    project = Project(tmp_path)
    folder = project.open().files.bank(SIDE)
    if how == "lost":
        shutil.rmtree(folder)
    elif how == "damaged":
        (folder / "images.bin").write_bytes(b"")
    else:
        shutil.copytree(folder, tmp_path / "older")
        project.add(20)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "older", folder)
    with pytest.raises(Superseded):
        open_bank(project.store.of(project.key), project.open().files)
    assert next_step(gather_facts(project.context, project.key, None)) == Step.REFETCH
    project.step(Step.REFETCH)
    images = IMAGES + 20 * (how == "older")
    assert project.store.of(project.key).tasks.counts(0).new == images
    assert next_step(gather_facts(project.context, project.key, None)) == Step.SYNC
    assert (folder.with_name(f"{folder.name}-damaged")).exists() == (how != "lost")
    project.store.close()
