"""The line on the model card, and what scripts are told, for conditions that are hard to bring about."""

from dataclasses import replace
from pathlib import Path

import pytest

from backend.config import ProjectConfig
from backend.loop.facts import Facts
from backend.project_files import Files
from backend.status.pretext_training import PretextTraining, note_training, read_training, training_text
from backend.status.status import Status
from backend.status.summary import advice_of, as_json, as_line, asked_in_full
from backend.store import AskRole, ProjectRow, RoundRow, RoundState
from backend.store.dashboard_queries import AskedQuality
from backend.store.rounds import AskCounts
from backend.store.task_counts import TaskCounts

MODEL = {"has_model": True, "labels": 36, "live_at": 1.0, "problem": "single_label"}


def status(
    number: int = 0, state: str = RoundState.LIVE, *, tasks: TaskCounts, answered: int, **given: object
) -> Status:
    rounds = [
        RoundRow(
            number=n, asked=40, state=RoundState.CLOSED, model_version=f"pt4al-r{n:03d}", seconds={}, **MODEL | given
        )
        for n in range(number + 1)
    ]
    rounds[-1].state = state
    project = ProjectRow(
        id=1,
        studio_project_id=7,
        active=True,
        title="Birds",
        extra_params={},
        label_config="",
        backend_url="http://b:9090",
    )
    finished = number >= ProjectConfig().rounds or (state == RoundState.CLOSED and tasks.available == 0)
    facts = Facts(tasks=tasks, live_round=number, finished=finished)
    return Status(project, ProjectConfig(), tasks, rounds, AskCounts(answered=answered), [], [], facts)


def test_the_status_has_the_loss_curve_of_the_pretext_network_and_says_where_it_still_fell(tmp_path: Path) -> None:
    files = Files.of(tmp_path, 1)
    note_training(files, "key", PretextTraining(31.4, [2.0, 1.6, 1.4, 1.0]))
    training = read_training(files, "key")
    assert training is not None
    said = as_json(replace(status(tasks=POOL, answered=0), pretext=training))["pretext"]
    assert said == {"task": "rotation", "seconds": 31.4, "curve": [2.0, 1.6, 1.4, 1.0], "fall_at_the_end": 0.4}
    text = training_text(training) or ""
    assert "in the last quarter of its 4 epochs it fell by 40% of its whole fall" in text
    assert "pretext_seconds (it took 31)" in text
    assert training_text(PretextTraining(31.4, [2.0, 1.0, 1.0, 0.97])) is None, "settled"
    assert training_text(PretextTraining(31.4, [2.0, 1.0])) is None, "too few epochs to tell"
    assert (read_training(files, "other"), read_training(files, None)) == (None, None)
    files.pretext_training("key").write_text("{")
    assert read_training(files, "key") is None
    assert as_json(status(tasks=POOL, answered=0))["pretext"]["curve"] is None


POOL = TaskCounts(tasks=100, ok=100, answered=50, labeled=50, available=50)
DONE = TaskCounts(tasks=100, ok=100, answered=100, labeled=99)


def test_the_card_counts_answers_up_to_what_the_round_asks_and_names_the_rest() -> None:
    line = as_line(status(1, tasks=POOL, answered=50, holdout_size=2, holdout_quality=1, holdout_squares=1))
    assert "round 2 of 10; 40 of 40 answered, 10 more ahead of the next round;" in line
    assert "accuracy on random images 1 of 2 right, too few to say, with 36 labels to learn from" in line
    assert "ahead" not in as_line(status(1, tasks=POOL, answered=40))


@pytest.mark.parametrize(
    ("number", "state", "tasks", "advice", "words"),
    [
        (0, RoundState.CLOSED, DONE, "finished", "round 1, the last; 40 of 40 answered; every image is answered"),
        (10, RoundState.LIVE, POOL, "continue", "round 11, after the last batch; 40 of 40 answered; all batches are"),
        (9, RoundState.LIVE, POOL, "continue", "round 10 of 10; 40 of 40 answered."),
    ],
)
def test_only_when_every_image_is_answered_there_is_nothing_to_advise(
    number: int, state: str, tasks: TaskCounts, advice: str, words: str
) -> None:
    found = status(number, state, tasks=tasks, answered=40)
    assert advice_of(found) == advice
    assert words in as_line(found)
    assert as_json(found)["advice"] == advice


def test_rounds_that_a_model_of_another_problem_has_chosen_are_not_compared() -> None:
    project = status(3, RoundState.CLOSED, tasks=POOL, answered=40)
    asked = [AskedQuality(number, AskRole.QUERY, 1, 1, 1.0, 1.0) for number in range(4)]
    assert asked_in_full(project, asked) == asked
    project.rounds[1].problem = "multi_label"  # it has chosen what round 2 asks
    assert [row.round for row in asked_in_full(project, asked)] == [0, 1, 3]
