"""A training that was finished is not repeated because the job died while it scored."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop.test_strategies import short  # noqa: F401 - a fixture
from support.kill import Killed
from support.offline_project import CLASSES, IMAGES, Project

from backend.errors import BackendError
from backend.loop.decide import Step
from backend.loop.facts import JobKind
from backend.loop.heartbeat import Stopped
from backend.store.tables import Answer, RoundState
from backend.store.tasks import TaskChange
from model.errors import ModelError
from model.learners import own_network


def dying(how: BaseException) -> Callable[..., None]:
    def die(*_: object, **__: object) -> None:
        raise how

    return die


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project whose round 0 was trained on, and whose job was killed as it began to score."""
    folder = tmp_path_factory.mktemp("killed")
    project = Project(folder)
    project.job(JobKind.PRETEXT)
    project.step(Step.SPLIT)
    project.step(Step.PLAN)
    project.answer(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_network.Learner, "load", dying(Killed()))
        with pytest.raises(Killed):
            project.retrain()
    project.store.close()
    return folder


@pytest.fixture
def project(killed: Path, tmp_path: Path) -> Iterator[Project]:
    made = Project(shutil.copytree(killed, tmp_path / "project"))
    yield made
    made.store.close()


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_network, "fit", dying(Killed("a training was begun")))


def test_only_scoring_is_repeated_where_the_weights_are_finished(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = project.open().files.model(0).read_bytes()
    forbid_training(monkeypatch)
    project.retrain()
    closed = project.store.of(project.key).rounds.get(0)
    assert closed.state == RoundState.CLOSED
    assert closed.labels == len([row for row in project.store.of(project.key).tasks.targets() if not row[2]])
    assert closed.seconds["retrain"] > 0, "what the training took, when it was run"
    assert len(project.asked(1)) == len(project.asked(0))
    found, undisturbed = np.load(project.open().files.probs(0)), scores(weights, project)
    np.testing.assert_array_equal(found, undisturbed)


def scores(weights: bytes, project: Project) -> np.ndarray:
    """What the network that was trained before the kill says of the pool."""
    path = project.open().files.folder / "copy.pt"
    path.write_bytes(weights)
    found = own_network.Learner.load(path, device="cpu").predict(project.bank()).probs
    assert found is not None
    return found


def test_being_told_to_stop_while_scoring_keeps_the_weights(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_training(monkeypatch)
    with pytest.raises(BackendError):
        project.retrain(dying(Stopped("interrupted")))
    project.retrain()
    assert project.store.of(project.key).rounds.get(0).state == RoundState.CLOSED


def answer_more(project: Project) -> None:
    task = next(number for number in range(1, IMAGES + 1) if number not in project.asked(0))
    answer(project, task, CLASSES[project.truth[task - 1]])


def change_answer(project: Project) -> None:
    index, label, _ = next(row for row in project.store.of(project.key).tasks.targets() if not row[2])
    answer(project, index + 1, CLASSES[1 - CLASSES.index(label)])


def answer(project: Project, task: int, label: str) -> None:
    change = TaskChange(task, f"{task}.png", None, Answer.LABELED, label)
    project.store.of(project.key).tasks.apply([change])


def add_label(project: Project) -> None:
    config = project.store.projects.get(project.key).label_config
    more = config.replace("</Choices>", '<Choice value="middle"/></Choices>')
    project.store.projects.set(project.key, label_config=more)


def lose_pretext(project: Project) -> None:
    for path in project.open().files.folder.glob("pretext-*"):
        path.unlink()


CHANGES: dict[str, Callable[[Project], Any]] = {
    "another answer": answer_more,
    "an answer changed": change_answer,
    "a label added": add_label,
    "another seed": lambda project: project.configure(seed=5),
    "another beginning": lambda project: project.configure(init="scratch"),
    "a sampler that needs more of the network": lambda project: project.configure(sampler="learning_loss"),
    "the pretext weights gone": lose_pretext,
    "pool indices of another bank": lambda project: project.open().files.drop_outputs(),
    "the weights gone": lambda project: project.open().files.model(0).unlink(),
    "the note damaged": lambda project: project.open().files.trained(0).write_text("{"),
    "a note of something else": lambda project: project.open().files.trained(0).write_text("[1]"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_weights_of_other_labels_or_another_configuration_are_trained_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch, change: Callable[[Project], Any]
) -> None:
    change(project)
    forbid_training(monkeypatch)
    with pytest.raises(Killed, match="a training was begun"):
        project.retrain()
    assert not project.open().files.trained(0).exists(), "the former note never stands beside other weights"


def test_weights_that_cannot_be_scored_with_are_not_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged on the disk, or of another release: else every try would fail on them."""
    project.open().files.model(0).write_bytes(b"no weights")
    forbid_training(monkeypatch)
    with pytest.raises(ModelError):
        project.retrain()
    with pytest.raises(Killed, match="a training was begun"):
        project.retrain()
