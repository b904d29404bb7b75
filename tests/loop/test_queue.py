"""The queue's steps, each against a fake Label Studio: post, switch, top_up, clean, drop, check_posted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loop_project import LoopProject

from backend.errors import StudioError, StudioUnreachable
from backend.loop.context import open_project
from backend.loop.steps import queue
from backend.store import AskRole, AskState, RoundState
from backend.store.rounds import Ask
from backend.studio import predictions
from backend.studio.types import Prediction

QUEUE, HOLDOUT, RESERVE = 3, 1, 30
VERSION = "pt4al-r000"


class Queue:
    """A project whose round 0 is planned: three images, one of the holdout, and reserve."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = LoopProject(folder, monkeypatch)
        self.tasks = self.loop.add(QUEUE + HOLDOUT + RESERVE)
        self.loop.connect_planned()
        self.store = self.loop.store.of(self.loop.id)
        self.plan(0, self.tasks)

    def plan(self, number: int, tasks: list[int]) -> None:
        roles = [AskRole.QUERY] * QUEUE + [AskRole.HOLDOUT] * HOLDOUT
        roles += [AskRole.RESERVE] * (len(tasks) - len(roles))
        asks = [
            Ask(task, rank / 100, role, "left", 0.9) for rank, (task, role) in enumerate(zip(tasks, roles, strict=True))
        ]
        assert self.store.rounds.plan(number, f"pt4al-r{number:03d}", asks)

    def post(self, preannotate: bool = True) -> None:
        project = open_project(self.loop.context, self.loop.id)
        queue.post(project.store, project.studio, project.files, project.labeling, preannotate=preannotate)

    def top_up(self) -> None:
        project = open_project(self.loop.context, self.loop.id)
        queue.top_up(project.store, project.studio, project.files, project.labeling, preannotate=True)

    def switch(self) -> None:
        queue.switch(self.store, self.loop.studio)

    def results(self, version: str = VERSION) -> dict[int, list[str]]:
        """Return the classes that Label Studio shows with each task of a version."""
        tasks = self.loop.server.projects[self.loop.studio.id].tasks.values()
        return {
            task.id: [choice for region in stored.result for choice in region["value"]["choices"]]
            for task in tasks
            for stored in task.predictions
            if stored.model_version == version
        }

    def states(self, number: int = 0) -> dict[int, str]:
        return {ask.task_id: ask.state for ask in self.store.rounds.asks(number, states=list(AskState))}


@pytest.fixture
def posting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    made = Queue(tmp_path, monkeypatch)
    yield made
    made.loop.store.close()


# post


def test_post_writes_queue_and_holdout_with_their_scores_and_marks_them(posting: Queue) -> None:
    posting.post()
    assert posting.loop.posted() == {task: rank / 100 for rank, task in enumerate(posting.tasks[:4])}
    assert [posting.states()[task] for task in posting.tasks[:5]] == [AskState.POSTED] * 4 + [AskState.PLANNED]


def test_post_preannotates_all_but_the_holdout(posting: Queue) -> None:
    posting.post()
    assert posting.results() == {**{task: ["left"] for task in posting.tasks[:3]}, posting.tasks[3]: []}


def test_post_preannotates_nothing_where_that_is_switched_off(posting: Queue) -> None:
    posting.post(preannotate=False)
    assert posting.results() == {task: [] for task in posting.tasks[:4]}


def test_post_shows_no_class_that_has_left_the_configuration(posting: Queue) -> None:
    row = posting.store.row()
    narrower = row.label_config.replace('"left"', '"above"')
    posting.store.set(label_config=narrower)
    posting.post()
    assert posting.results() == {task: [] for task in posting.tasks[:4]}


def test_post_again_sends_nothing(posting: Queue) -> None:
    posting.post()
    sent = posting.loop.requests("import/predictions")
    posting.post()
    assert posting.loop.requests("import/predictions") == sent == 1


def test_post_marks_what_is_being_sent_before_it_is_sent(posting: Queue) -> None:
    seen = []

    def look(request: str) -> None:
        if "import/predictions" in request:
            seen.append([posting.states()[task] for task in posting.tasks[:4]])

    posting.loop.server.before = look
    posting.post()
    assert seen == [[AskState.POSTING] * 4]


@pytest.mark.parametrize("arrived", [False, True])
def test_post_after_a_lost_answer_neither_loses_nor_doubles(posting: Queue, arrived: bool) -> None:
    def fail(request: str) -> None:
        if "import/predictions" in request:
            raise StudioUnreachable("no answer")

    setattr(posting.loop.server, "after" if arrived else "before", fail)
    with pytest.raises(StudioUnreachable):
        posting.post()
    assert set(posting.states().values()) == {AskState.POSTING, AskState.PLANNED}
    posting.loop.server.before = posting.loop.server.after = lambda request: None
    posting.post()
    assert list(posting.loop.posted()) == posting.tasks[:4]
    assert posting.store.rounds.counts(0).doubtful == 0
    assert posting.loop.requests("import/predictions") == (1 if arrived else 2)


def test_post_deletes_doubles_foreign_and_wrong_scores_of_its_version(posting: Queue) -> None:
    first, second, *_ = posting.tasks
    posting.post()
    double, foreign = Prediction(first, 0.0, VERSION), Prediction(posting.tasks[-1], 0.5, VERSION)
    posting.loop.studio.predictions.write([double, foreign, Prediction(second, 0.77, VERSION)])
    posting.post()
    assert posting.loop.posted() == {task: rank / 100 for rank, task in enumerate(posting.tasks[:4])}


def test_post_leaves_out_a_task_that_was_deleted_meanwhile(posting: Queue) -> None:
    posting.loop.person.delete_task(posting.tasks[1])
    posting.post()
    assert set(posting.loop.posted()) == {*posting.tasks[:4]} - {posting.tasks[1]}


# switch


def test_switch_has_label_studio_serve_the_queue_in_order(posting: Queue) -> None:
    posting.post()
    posting.switch()
    info = posting.loop.studio.settings()
    assert (info.sampling, info.model_version) == ("Uncertainty sampling", VERSION)
    assert posting.store.rounds.get(0).state == RoundState.LIVE
    assert posting.loop.answer() == posting.tasks[:4]


def test_switch_puts_a_changed_sampling_back_and_says_so_until_the_next_round(posting: Queue) -> None:
    posting.post()
    posting.switch()
    assert posting.store.row().put_back is None
    posting.loop.person.change_project(posting.loop.studio.id, sampling="Sequential sampling", model_version="PT4AL")
    posting.switch()
    info = posting.loop.studio.settings()
    assert (info.sampling, info.model_version) == ("Uncertainty sampling", VERSION)
    assert posting.store.row().put_back == queue.PUT_BACK
    posting.store.rounds.set(0, state=RoundState.CLOSED, closed_at=0.0)
    posting.plan(1, posting.tasks[4:])
    posting.post()
    posting.switch()
    assert posting.store.row().put_back is None
    assert posting.store.rounds.get(0).seconds["ask"] > 0


def test_switch_without_predictions_has_them_posted_again(posting: Queue) -> None:
    posting.post()
    posting.loop.person.delete_version(posting.loop.studio.id, VERSION)
    with pytest.raises(StudioError, match="Model version doesn't exist"):
        posting.switch()
    assert posting.store.rounds.get(0).live_at is None
    assert posting.store.rounds.counts(0).doubtful == 4
    posting.post()
    posting.switch()
    assert list(posting.loop.posted()) == posting.tasks[:4]


# check_posted


def test_check_posted_notices_predictions_that_somebody_deleted(posting: Queue) -> None:
    posting.post()
    posting.switch()
    queue.check_posted(posting.store, posting.loop.studio)
    assert posting.store.rounds.counts(0).doubtful == 0
    stored = posting.loop.studio.predictions.stored(VERSION)
    posting.loop.person.delete_prediction(stored[1].id)
    queue.check_posted(posting.store, posting.loop.studio)
    assert posting.store.rounds.counts(0).doubtful == 4
    posting.post()
    assert set(posting.loop.posted()) == {*posting.tasks[:4]}


def test_check_posted_leaves_a_round_alone_that_is_not_served_yet(posting: Queue) -> None:
    posting.post()
    posting.loop.person.delete_version(posting.loop.studio.id, VERSION)
    queue.check_posted(posting.store, posting.loop.studio)
    assert posting.store.rounds.counts(0).doubtful == 0


# top_up


def test_top_up_posts_the_next_of_the_reserve_behind_the_queue(posting: Queue) -> None:
    posting.post()
    posting.switch()
    posting.top_up()
    # Twice the low water of a quiet round, which is ten.
    assert list(posting.loop.posted()) == posting.tasks[: 4 + 20]
    assert posting.states()[posting.tasks[4]] == AskState.POSTED
    posting.top_up()
    assert list(posting.loop.posted()) == posting.tasks
    assert posting.loop.answer() == posting.tasks


# clean


def second_round(posting: Queue) -> None:
    posting.post()
    posting.switch()
    posting.store.rounds.set(0, state=RoundState.CLOSED)
    posting.plan(1, posting.tasks[4:])
    posting.post()
    posting.switch()


def test_clean_deletes_superseded_predictions_and_leaves_the_queue(posting: Queue) -> None:
    second_round(posting)
    queue.clean(posting.store, posting.loop.studio)
    assert posting.loop.studio.predictions.versions() == {"pt4al-r001": 4}
    assert posting.loop.studio.settings().model_version == "pt4al-r001"
    assert posting.store.rounds.to_clean() == []


def test_clean_takes_a_part_at_a_time(posting: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "DELETED", 1)
    monkeypatch.setattr(queue, "CLEAN_PREDICTIONS", 3)
    second_round(posting)
    queue.clean(posting.store, posting.loop.studio)
    assert posting.loop.studio.predictions.versions()[VERSION] == 1
    assert [row.number for row in posting.store.rounds.to_clean()] == [0]
    queue.clean(posting.store, posting.loop.studio)
    assert posting.loop.studio.predictions.versions() == {"pt4al-r001": 4}


# drop


def test_drop_forgets_a_planned_round_and_frees_its_holdout(posting: Queue) -> None:
    held = posting.tasks[3] - posting.tasks[0]  # pool index
    assert posting.store.tasks.pool(len(posting.tasks)).holdout[held]
    queue.drop(posting.store)
    assert posting.store.rounds.current() is None
    assert not posting.store.tasks.pool(len(posting.tasks)).holdout.any()
