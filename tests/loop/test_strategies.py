"""Every strategy that the extra params accept, through the steps that train, score and plan: without Label Studio."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backend.config import CHOICES, Settings
from backend.errors import Superseded
from backend.loop.context import Context, Work
from backend.loop.steps.plan import extend, plan
from backend.loop.steps.pretext import pretext, restart, split_pool
from backend.loop.steps.retrain import retrain
from backend.loop.steps.sync import open_bank
from backend.store import AskRole, AskState, RoundRow, RoundState, Store
from backend.store.tables import Answer
from backend.store.tasks import TaskChange
from model.pretext import run
from model.training import recipes

SIDE, IMAGES, K = 16, 80, 8
CLASSES = ("left", "right")
LABELS = "".join(f'<Choice value="{name}"/>' for name in CLASSES)
CONFIG = f'<View><Image name="i" value="$image"/><Choices name="c" toName="i" choice="single">{LABELS}</Choices></View>'
PARAMS = {"rounds": 3, "labels_per_round": K, "network": "compact"}


def pictures(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures whose bright half lies left or right, and which of the two."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    base = np.full((n, SIDE, SIDE, 3), 60.0)
    for number, label in enumerate(labels):
        base[number, :, label * SIDE // 2 : (label + 1) * SIDE // 2] = 180
    return (base + generator.normal(0, 20, base.shape)).clip(0, 255).astype(np.uint8), labels


class Project:
    """A project with images in bank and store, whose tasks are answered by the truth."""

    def __init__(self, folder: Path) -> None:
        """Open what is in the folder, or begin."""
        self.store = Store(f"sqlite:///{folder / 'test.sqlite3'}", folder)
        self.context = Context(Settings(data_dir=folder, device="cpu"), self.store, SimpleNamespace())
        self.key = self.store.projects.connect(
            studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=None,
            label_config=CONFIG,
            extra_params=PARAMS,
        )[0].id  # fmt: skip
        self.truth = np.empty(0, np.int64)
        if not self.store.of(self.key).tasks.pool_size():
            self.store.projects.set(self.key, image_side=SIDE)
            self.add(IMAGES)
        self.truth = pictures(IMAGES)[1]

    def add(self, n: int) -> None:
        """Put n images into bank and store."""
        images, truth = pictures(n, seed=len(self.truth))
        first = open_bank(self.work()).append(images)
        self.truth = np.concatenate([self.truth, truth])
        ids = {first + i + 1: first + i for i in range(n)}  # task id: pool index
        self.store.of(self.key).tasks.apply([TaskChange(task, f"{task}.png", None, Answer.NONE, None) for task in ids])
        self.store.of(self.key).tasks.images_fetched(ids)

    def work(self) -> Work:
        return Work(self.context, self.store.projects.get(self.key))

    def configure(self, **params: object) -> Work:
        self.store.projects.set(self.key, extra_params={**PARAMS, **params})
        return self.work()

    def asked(self, number: int) -> list[int]:
        """Return the task ids of the round's query and holdout."""
        asks = self.store.of(self.key).rounds.asks(number, states=list(AskState))
        return [ask.task_id for ask in asks if ask.role != AskRole.RESERVE]

    def answer(self, number: int) -> None:
        """Have the round served and all of its queue answered."""
        self.store.of(self.key).rounds.go_live(number)
        names = {task: CLASSES[self.truth[task - 1]] for task in self.asked(number)}
        self.store.of(self.key).tasks.apply(
            [TaskChange(task, f"{task}.png", None, Answer.LABELED, name) for task, name in names.items()]
        )


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
    pretext(project.work(), ignore)
    split_pool(project.work())
    plan(project.work())
    project.answer(0)
    project.store.close()
    return folder


@pytest.fixture
def project(answered: Path, tmp_path: Path) -> Iterator[Project]:
    """A project of its own whose round 0 is answered."""
    made = Project(shutil.copytree(answered, tmp_path / "project"))
    yield made
    made.store.close()


def ignore(share: float) -> None:
    pass


def test_every_first_query_of_the_extra_params_plans_round_zero(project: Project, caplog: pytest.LogCaptureFixture):
    queries = {}
    for name in CHOICES["first_query"]:
        project.store.of(project.key).rounds.forget()
        work = project.configure(first_query=name)
        pretext(work, ignore)
        plan(work)
        queries[name] = project.asked(0)
        extend(work)
    assert "asking by" not in caplog.text
    assert {len(asked) for asked in queries.values()} == {K + 1}  # one of them is holdout
    assert len({tuple(asked) for asked in queries.values()}) >= len(queries) - 1  # two small ones may coincide


@pytest.mark.parametrize(
    ("name", "joint"),
    [*((name, "none") for name in CHOICES["sampler"]), *(("learning_loss", joint) for joint in CHOICES["joint"][1:])],
)
def test_every_sampler_of_the_extra_params_plans_the_round_after_a_training(
    project: Project, caplog: pytest.LogCaptureFixture, name: str, joint: str
):
    shares: list[float] = []
    retrain(project.configure(sampler=name, joint=joint), shares.append)
    current = project.store.of(project.key).rounds.current()
    assert (current.number, current.state) == (1, RoundState.PLANNED)
    assert len(project.asked(1)) == K + 1
    assert not set(project.asked(1)) & set(project.asked(0))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    project.add(5)  # images that the model has not seen: more reserve is found all the same
    extend(project.work())
    assert "asking by" not in caplog.text


def test_a_sampler_chosen_after_the_training_waits_for_the_next(project: Project, caplog: pytest.LogCaptureFixture):
    retrain(project.configure(), ignore)
    extend(project.configure(sampler="vaal"))
    assert "no labeled_probability for 'vaal' yet; asking by 'least_confidence'" in caplog.text


def test_a_first_query_chosen_after_the_pretext_training_waits_for_its_features(
    project: Project, caplog: pytest.LogCaptureFixture
):
    project.store.of(project.key).rounds.forget()
    work = project.configure(first_query="kmeans")
    next(work.files.folder.glob("pretext-*-embeddings.npy")).unlink()  # an even first query would not have left them
    plan(work)
    assert "no pretext_embeddings for 'kmeans' yet; asking by 'even'" in caplog.text
    assert len(project.asked(0)) == K + 1


def test_features_of_later_images_are_added_and_those_of_a_forgotten_pretext_model_deleted(project: Project):
    work = project.configure(first_query="typical")
    pretext(work, ignore)
    path = next(work.files.folder.glob("pretext-*-embeddings.npy"))
    before = np.load(path)
    project.add(5)
    pretext(project.work(), ignore)
    after = np.load(path)
    assert (len(before), len(after)) == (IMAGES, IMAGES + 5)
    np.testing.assert_array_equal(after[:IMAGES], before)
    restart(project.work())
    assert not path.exists()


def test_two_models_are_compared_on_images_that_both_have_seen(project: Project):
    as_many = {"holdout_fraction": 1.0}
    work = project.configure(**as_many)
    retrain(work, ignore)
    project.answer(1)
    retrain(project.work(), ignore)
    both = project.store.of(project.key).rounds.get(1)
    assert both.holdout_size > 0
    assert both.holdout_gained - both.holdout_lost == both.holdout_correct - right_before(project, 0, both)
    project.add(IMAGES)
    pretext(project.work(), ignore)
    split_pool(project.work())
    project.store.of(project.key).rounds.drop(2)
    plan(project.work())
    asks = project.store.of(project.key).rounds.asks(2, states=list(AskState))
    held = [ask.task_id for ask in asks if ask.role == AskRole.HOLDOUT]
    assert max(held) > IMAGES, "an image that the model before has not seen"
    project.answer(2)
    retrain(project.work(), ignore)
    later = project.store.of(project.key).rounds.get(2)
    assert later.holdout_size > both.holdout_size
    assert (later.holdout_gained, later.holdout_lost) == (None, None)


def right_before(project: Project, number: int, row: RoundRow) -> int:
    """Count the holdout images of a round that an earlier round's model is right about."""
    probs = np.load(project.work().files.output(number, "probs"))
    held = [index for index, _, holdout in project.store.of(project.key).tasks.labels() if holdout]
    assert len(held) == row.holdout_size
    return int((probs[held].argmax(axis=1) == project.truth[held]).sum())


def test_a_class_that_is_added_after_a_training_is_asked_like_any_other(project: Project):
    retrain(project.configure(sampler="class_balanced"), ignore)
    wider = CONFIG.replace("</Choices>", '<Choice value="above"/></Choices>')
    project.store.projects.set(project.key, label_config=wider)
    project.store.of(project.key).rounds.drop(1)
    plan(project.work())
    assert len(project.asked(1)) == K + 1
    project.answer(1)
    retrain(project.work(), ignore)
    assert project.store.of(project.key).rounds.get(1).classes == [*CLASSES, "above"]


@pytest.mark.parametrize("how", ["lost", "damaged", "older"])
def test_a_bank_that_does_not_hold_what_the_store_says_is_filled_again(tmp_path: Path, how: str) -> None:
    project = Project(tmp_path)
    folder = project.work().files.bank(SIDE)
    if how == "lost":
        shutil.rmtree(folder)
    elif how == "damaged":
        (folder / "images.bin").write_bytes(b"")
    else:
        shutil.copytree(folder, tmp_path / "older")
        project.add(20)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "older", folder)
    with pytest.raises(Superseded, match="fetched again"):
        open_bank(project.work())
    images = IMAGES + 20 * (how == "older")
    assert project.store.of(project.key).tasks.counts(0).new == images
    project.store.projects.set(project.key, image_side=SIDE)
    assert len(open_bank(project.work())) == 0
    project.store.close()
