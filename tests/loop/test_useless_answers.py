"""Answers that cannot be learned, and those that a model gave: what becomes of the round, and what is said."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.loop_project import CHOICES, CONFIG, LoopProject, answer_of, shorten_training

from backend.dashboard.findings import _accepted
from backend.status.left_out import left_out
from backend.status.status import Status, read_status
from backend.store import Answer, RoundState
from backend.store.tables import Refused

OTHER = f'<Choices name="other" toName="i">{CHOICES}</Choices>'


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project whose first round of four is served, beside one random image."""
    shorten_training(monkeypatch)
    made = LoopProject(tmp_path, monkeypatch)
    made.add(40)
    made.connect(holdout_fraction=0.25)
    made.run()
    yield made
    made.store.close()


def region(*names: str, control: str = "c", **more: Any) -> dict[str, Any]:
    return {"from_name": control, "to_name": "i", "type": "choices", "value": {"choices": list(names)}, **more}


def status(loop: LoopProject) -> Status:
    return read_status(loop.store, loop.row)


def answered(loop: LoopProject) -> Counter[Any]:
    return loop.store.of(loop.id).dashboard.answers()


USELESS = {
    "several": ([region("left", "right")], Refused.SEVERAL, "with several answers"),
    "unknown": ([region("above")], Refused.UNKNOWN, "a class that the labeling interface does not have"),
    "other": ([region("left", control="other")], Refused.OTHER, "to other questions alone"),
    "empty": ([], Refused.EMPTY, "without an answer to the question"),
    "unusable": ([region("left") | {"value": {}}], Refused.UNUSABLE, "in a form that is not"),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_round_without_one_usable_answer_stops_and_says_why(loop: LoopProject, name: str) -> None:
    result, reason, says = USELESS[name]
    queue = loop.queue()
    for task in queue:
        loop.person.annotate(task, result)
    jobs = loop.run()
    assert "retrain" not in jobs
    assert (loop.round.number, loop.round.state) == (0, RoundState.LIVE)
    assert answered(loop) == {reason: len(queue)}
    error = status(loop).error or ""
    assert error.startswith(f"Round 1 is answered, and no answer to 'c' can be learned: {len(queue)} ")
    assert says in error
    assert status(loop).stage == "failed"
    assert set(loop.posted()) > set(queue), "people are served meanwhile, not random images"

    more = next(task for task in loop.posted() if task not in queue)
    loop.person.annotate(more, answer_of(loop.truth[more]))
    loop.run()
    assert status(loop).error is None
    assert loop.round.number == 1


def test_causes_are_told_apart_each_with_its_number(loop: LoopProject) -> None:
    first, second, third, *rest = loop.queue()
    loop.person.annotate(first, [region("above")])
    loop.person.annotate(second, [region("left", "right")])
    loop.person.annotate(third, [])
    loop.person.skip(rest[0])
    loop.run()
    text = left_out(answered(loop)) or ""
    parts = ("1 with a class", "1 with several answers", "1 without an answer", "1 skipped")
    assert [part for part in parts if part in text] == list(parts)
    assert answered(loop) == {Refused.UNKNOWN: 1, Refused.SEVERAL: 1, Refused.EMPTY: 1, Answer.SKIPPED: 1}


def test_a_class_that_comes_back_brings_its_answers_back(loop: LoopProject) -> None:
    for task in loop.queue():
        loop.person.annotate(task, [region("above")])
    loop.run()
    assert loop.round.number == 0
    wider = CONFIG.replace("</Choices>", '<Choice value="above"/></Choices>')
    loop.person.change_project(loop.studio.id, label_config=wider)
    loop.run()
    assert status(loop).error is None
    assert loop.round.number == 1


def test_a_skipped_round_asks_no_other_but_the_last_one_may_close(loop: LoopProject) -> None:
    for task in loop.queue():
        loop.person.skip(task)
    loop.run()
    assert loop.round.number == 0
    assert "5 skipped" in (status(loop).error or "")
    while (task := loop.person.next_task(loop.studio.id)) is not None:
        loop.person.skip(task.id)
        loop.run()
    assert status(loop).tasks.available == 0
    assert "no answer to 'c' can be learned" in (status(loop).error or "")


def test_annotations_made_from_the_queues_predictions_close_no_round(loop: LoopProject) -> None:
    queue = loop.queue()
    loop.person.act(loop.studio.id, "predictions_to_annotations", queue, model_version=loop.round.model_version)
    assert "retrain" not in loop.run()
    assert (loop.round.number, loop.round.state) == (0, RoundState.LIVE)
    assert answered(loop) == {Answer.MODEL: len(queue)}
    assert status(loop).answered == 0
    assert status(loop).error is None
    assert "made from predictions" in (left_out(answered(loop)) or "")
    served = set(loop.posted()) - set(queue)
    assert len(served) >= len(queue), "reserve takes their place"
    loop.label(sorted(served)[: len(queue)])
    loop.run()
    assert loop.round.number == 1
    assert loop.store.of(loop.id).rounds.get(0).labels == len(queue)  # type: ignore[union-attr]


def test_what_a_model_said_is_neither_trained_on_nor_measured_with(loop: LoopProject) -> None:
    loop.label(loop.queue())
    loop.run()
    assert loop.round.number == 1
    labeled = status(loop).tasks.labeled
    version = loop.round.model_version
    made = loop.queue()
    loop.person.act(loop.studio.id, "predictions_to_annotations", made, model_version=version)
    loop.run()
    assert (status(loop).tasks.labeled, status(loop).tasks.trainable) == (labeled, 4)
    assert {loop.stored(task) for task in made} == {(Answer.MODEL, None)}
    first, *_ = made
    annotation = loop.server.projects[loop.studio.id].tasks[first].annotations[0]
    loop.person.change_annotation(annotation.id, lead_time=3.0)  # somebody looks at it, and saves it
    loop.run()
    assert loop.stored(first)[0] == Answer.LABELED


def test_it_stays_known_after_the_predictions_are_deleted(loop: LoopProject) -> None:
    loop.label(loop.queue())
    loop.run()
    version, made = loop.round.model_version, loop.queue()
    loop.person.act(loop.studio.id, "predictions_to_annotations", made, model_version=version)
    loop.run()
    loop.studio.predictions.delete_version(version)
    loop.store.of(loop.id).set(cursor=None)  # everything is read again
    loop.run()
    assert {loop.stored(task) for task in made} == {(Answer.MODEL, None)}


def test_accepted_predictions_are_answers_and_are_counted(loop: LoopProject) -> None:
    first, second, third, *_ = loop.queue()
    loop.person.annotate(first, [region("left", origin="prediction")])
    loop.person.annotate(second, [region("left", origin="prediction-changed")])
    loop.person.annotate(third, [region("left", origin="manual")])
    loop.run()
    assert answered(loop) == {Answer.LABELED: 3}
    assert loop.store.of(loop.id).dashboard.accepted() == 1
    (finding,) = _accepted(1, 3)
    assert finding.text.startswith("Of 3 labels, 1 is a prediction that a person took over unchanged")


def test_a_project_stays_with_its_question_whatever_is_added_above(loop: LoopProject) -> None:
    loop.label(loop.queue())
    loop.run()
    labeled = status(loop).tasks.labeled
    above = CONFIG.replace("<Choices", OTHER + "<Choices", 1)
    loop.person.change_project(loop.studio.id, label_config=above)
    loop.run()
    assert status(loop).labeling.control == "c"  # type: ignore[union-attr]
    assert status(loop).tasks.labeled == labeled
    notice = status(loop).notice or ""
    assert "goes on learning 'c'" in notice
    assert '"control" in the extra params names another one' in notice


def test_before_the_first_label_the_first_question_is_learned(loop: LoopProject) -> None:
    above = CONFIG.replace("<Choices", OTHER + "<Choices", 1)
    loop.person.change_project(loop.studio.id, label_config=above)
    loop.run()
    assert status(loop).labeling.control == "other"  # type: ignore[union-attr]


def test_a_question_that_goes_and_comes_back_brings_its_labels_back(loop: LoopProject) -> None:
    loop.label(loop.queue())
    loop.run()
    labeled = status(loop).tasks.labeled
    alone = CONFIG.replace('name="c"', 'name="other"')
    loop.person.change_project(loop.studio.id, label_config=alone)
    loop.run()
    assert status(loop).labeling.control == "other"  # type: ignore[union-attr]
    assert status(loop).tasks.labeled == 0
    assert "'c', which was learned so far, is not in the labeling interface" in (status(loop).notice or "")
    task = loop.queue()[0]
    loop.person.annotate(task, [region("left", control="other")])
    loop.run()
    both = CONFIG.replace("<Choices", OTHER + "<Choices", 1)
    loop.person.change_project(loop.studio.id, label_config=both)
    loop.run()
    assert status(loop).labeling.control == "c"  # type: ignore[union-attr]
    assert status(loop).tasks.labeled == labeled


def test_the_control_of_the_extra_params_comes_before_what_was_learned(loop: LoopProject) -> None:
    loop.label(loop.queue())
    loop.run()
    both = CONFIG.replace("<Choices", OTHER + "<Choices", 1)
    loop.person.change_project(loop.studio.id, label_config=both)
    loop.setup(holdout_fraction=0.25, control="other")
    loop.run()
    assert status(loop).labeling.control == "other"  # type: ignore[union-attr]
    assert "goes on" not in (status(loop).notice or "")


def test_after_an_upgrade_all_answers_are_read_once_more(loop: LoopProject) -> None:
    first, second, *_ = loop.queue()
    loop.person.annotate(first, [region("left", "right")])
    loop.label([second])
    loop.run()
    assert loop.row.control == "c"
    store = loop.store.of(loop.id)
    loop.server.clock.advance(100)
    loop.run()
    store.tasks._set([first], refusal=None)
    loop.run()
    assert answered(loop) == {Refused.UNUSABLE: 1, Answer.LABELED: 1}, "only what changes is read"
    store.set(control="")
    loop.run()
    assert answered(loop) == {Refused.SEVERAL: 1, Answer.LABELED: 1}
    assert loop.row.control == "c"
