"""The choice of the learner: behind the queue, by the labels, and the better model in the head's place."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.fake_encoder import use_fake_encoders
from support.loop_project import CLASSES, WITH_ENCODER, LoopProject, shorten_training

from backend.errors import Superseded
from backend.loop.context import open_project
from backend.loop.facts import CHOSEN, last_choice
from backend.loop.steps.refine import refine
from backend.loop.steps.retrain import Training
from backend.status.learner_text import learner_text
from backend.status.predictions import open_outputs
from backend.status.status import read_status
from backend.store import RoundRow, RoundState
from model.learners import choice, trials
from model.learners.finetune import FinetunedModel
from model.learners.fitting import load_model
from model.learners.learner import Learner
from model.learners.linear import LinearModel
from model.learners.registry import FINETUNE, LEARNERS, LINEAR, OWN

ASKED = 4  # images a round
FEWEST = 8  # labels from which the learners are compared here


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project whose first round is served; the learners are compared after the second."""
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    monkeypatch.setattr(trials, "FEWEST", FEWEST)
    monkeypatch.setattr(choice, "GOOD", 2.0)  # the head of the tests is right about everything
    made = LoopProject(tmp_path, monkeypatch)
    made.add(40)
    made.connect(**WITH_ENCODER)
    made.run()
    yield made
    made.store.close()


def have_won(monkeypatch: pytest.MonkeyPatch, learner: str) -> None:
    monkeypatch.setattr(choice, "_better", lambda *_: learner)


def finish_round(loop: LoopProject) -> list[str]:
    """Answer a round and return the jobs that ran after it."""
    before = len(loop.queueing.ran)
    loop.answer(ASKED)
    loop.run()
    return [job for job in loop.queueing.ran[before:] if job not in ("advance", "twins")]


def newest(loop: LoopProject) -> RoundRow:
    row = loop.store.of(loop.id).rounds.newest_model()
    assert row is not None
    return row


def test_learners_are_compared_once_there_are_labels_enough_and_both_are_named(loop: LoopProject) -> None:
    assert "refine" not in finish_round(loop), "4 labels tell nothing"
    ran = finish_round(loop)
    assert ran.index("retrain") < ran.index("refine")
    learner = newest(loop).learner
    assert learner is not None
    assert set(learner[CHOSEN]["quality"]) == {LINEAR, FINETUNE, OWN}
    assert learner[CHOSEN]["labels"] == FEWEST
    text = learner_text(open_project(loop.context, loop.id).config, learner)
    assert text is not None
    assert re.search(
        r"seen, the linear head \d+%, the fine-tuned block \d+% and a network of our own \d+% were right\.$", text
    )
    assert read_status(loop.store, loop.row).error is None


def test_tiny_pictures_get_a_network_of_our_own_from_the_first_labels_on(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "TINY", 16)
    ran = finish_round(loop)
    assert ran.index("retrain") < ran.index("refine"), "the head answers first"
    row, project = newest(loop), open_project(loop.context, loop.id)
    assert row.learner is not None
    assert (row.learner["learner"], row.learner[CHOSEN]["labels"], row.learner[CHOSEN]["quality"]) == (OWN, 0, {})
    assert isinstance(load_model(project.files.model(row.number), device="cpu"), Learner)
    assert learner_text(project.config, row.learner) == f"The model: {LEARNERS[OWN].learns}."
    assert trials.is_due(last_choice(loop.store.of(loop.id).rounds.all()), FEWEST), "compared once there are enough"


def test_the_next_round_is_served_before_the_learners_are_compared(loop: LoopProject) -> None:
    finish_round(loop)
    loop.answer(ASKED)
    loop.queueing.wake(loop.id)
    while "refine" not in loop.queueing.ran:
        served = loop.round.number == 2 and loop.round.state == RoundState.LIVE
        assert loop.queueing.run_next() is not None
        if "refine" in loop.queueing.ran:
            assert served


def test_the_next_comparison_waits_for_half_as_many_labels_again(loop: LoopProject) -> None:
    assert ["refine" in finish_round(loop) for _ in range(4)] == [False, True, True, False]
    # 8, 12, and not 16, which is less than one and a half times 12


@pytest.mark.parametrize(("better", "kind"), [(OWN, Learner), (FINETUNE, FinetunedModel)])
def test_the_learner_that_was_ahead_takes_the_place_of_the_head(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch, better: str, kind: type
) -> None:
    finish_round(loop)
    have_won(monkeypatch, better)
    assert "refine" in finish_round(loop)
    project, row = open_project(loop.context, loop.id), newest(loop)
    assert row.learner is not None
    assert (row.learner["learner"], row.learner[CHOSEN]["learner"]) == (better, better)
    model = load_model(project.files.model(row.number), device="cpu")
    assert isinstance(model, kind)
    training = Training.open(project.store, project.files, project.config, project.labeling, "cpu")
    outputs = open_outputs(project.files, row)
    assert outputs is not None
    np.testing.assert_array_equal(np.asarray(outputs.outputs.probs), model.predict_pool(training.pool).probs)
    assert row.exported, "it is exported again"
    assert not project.files.refined(row.number).exists()
    said = learner_text(project.config, row.learner)
    assert said is not None
    assert said.startswith(f"The model: {LEARNERS[better].learns}")
    # A head answers first in the next round too, and the learner follows without a comparison.
    have_won(monkeypatch, LINEAR)
    ran = finish_round(loop)
    assert ran.index("retrain") < ran.index("refine")
    monkeypatch.setattr(trials, "GROWTH", 100.0)
    finish_round(loop)
    assert {len(CLASSES)} == {model.classes}


def test_a_head_that_stays_is_left_as_it_was(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    finish_round(loop)
    have_won(monkeypatch, LINEAR)
    finish_round(loop)
    project, row = open_project(loop.context, loop.id), newest(loop)
    assert isinstance(load_model(project.files.model(row.number)), LinearModel)
    assert row.learner is not None
    assert row.learner["learner"] == LINEAR
    assert row.learner["features"] in ("both", "last", "last+mid")


def test_the_comparison_makes_way_and_is_done_later(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    finish_round(loop)
    loop.answer(ASKED)
    loop.queueing.wake(loop.id)
    while "retrain" not in loop.queueing.ran[-1:]:
        assert loop.queueing.run_next() is not None
    project = open_project(loop.context, loop.id)
    given = (project.store, project.files, project.config, project.labeling, "cpu")
    with pytest.raises(Superseded):
        refine(*given, lambda: True, lambda share: None)
    row = newest(loop)
    assert row.learner is not None
    assert CHOSEN not in row.learner
    refine(*given, lambda: False, lambda share: None)
    again = newest(loop).learner
    assert again is not None
    assert CHOSEN in again


@pytest.mark.parametrize(
    "params", [{"learner": "linear"}, {"learner": "finetune"}, {"learner": "own"}, {"encoder": "none"}]
)
def test_a_learner_that_was_chosen_by_a_person_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, str]
) -> None:
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    monkeypatch.setattr(trials, "FEWEST", 2)
    loop = LoopProject(tmp_path, monkeypatch)
    loop.add(20)
    loop.connect(**WITH_ENCODER, **params)
    loop.run()
    finish_round(loop)
    assert newest(loop).learner is not None
    assert "refine" not in loop.queueing.ran
    loop.store.close()
