"""The whole loop in this process, on a fake Label Studio: from connecting to the third round, and what may go wrong."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.loop_project import LoopProject, answer_of, shorten_training

from backend.errors import StudioUnreachable
from backend.store import RoundState

IMAGES = 40
ASKED = 4  # a round; with so few, none of them is holdout


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[LoopProject]:
    """A project before it is connected: the real networks, trained for few steps, and no export, which takes 3 s."""
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    with ExitStack() as stack:
        database = None
        if getattr(request, "param", "sqlite") == "postgresql":
            postgres = request.getfixturevalue("postgres")
            database = postgres.url(stack.enter_context(postgres.database()))
        made = LoopProject(tmp_path, monkeypatch, database=database)
        made.add(IMAGES)
        yield made
        made.store.close()


@pytest.fixture
def serving(loop: LoopProject) -> LoopProject:
    """A project whose first round is served."""
    loop.connect()
    loop.run()
    return loop


@pytest.mark.parametrize("loop", ["sqlite", "postgresql"], indirect=True)
def test_from_connecting_to_the_third_round(loop: LoopProject) -> None:
    loop.connect()
    assert [job for job in loop.run() if job not in ("advance", "twins")] == ["sync", "pretext", "record"]
    asked: list[int] = []
    for number in range(3):
        assert (loop.round.number, loop.round.state, loop.row.error) == (number, RoundState.LIVE, None)
        info = loop.studio.settings()
        assert (info.model_version, info.sampling) == (loop.round.model_version, "Uncertainty sampling")
        queue = loop.queue()
        assert len(queue) == ASKED
        assert not set(queue) & set(asked)
        assert loop.answer(ASKED) == queue  # in this order
        asked += queue
        assert [job for job in loop.run() if job not in ("advance", "twins")] == ["retrain", "export"]
    rounds = loop.store.of(loop.id).rounds.all()
    assert [row.labels for row in rounds] == [4, 8, 12, None]
    assert set(loop.studio.predictions.versions()) == {"pt4al-r003"}
    (card,) = loop.studio.ml_backends()
    assert "round 4" in card.description
    data = [task.data for task in loop.studio.tasks.by_id(sorted(loop.truth))]
    assert all({"pretext_loss", "pretext_batch"} <= set(one) for one in data)


@pytest.mark.slow
def test_from_connecting_to_a_model_for_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_training(monkeypatch)
    loop = LoopProject(tmp_path, monkeypatch)
    loop.add(IMAGES)
    loop.connect()
    loop.run()
    loop.answer(ASKED)
    loop.run()
    assert loop.store.of(loop.id).rounds.get(0).exported
    written = {path.suffix for path in (tmp_path / "projects" / str(loop.id)).glob("round-000*")}
    assert {".onnx", ".safetensors"} <= written
    loop.store.close()


def test_an_advance_without_news_writes_nothing(serving: LoopProject) -> None:
    before = len(serving.server.requests)
    serving.run()
    sent = serving.server.requests[before:]
    assert [request for request in sent if not request.startswith("GET")] == []


def test_annotators_never_run_dry_while_a_model_trains(serving: LoopProject) -> None:
    serving.answer(ASKED)
    assert serving.queueing.wake(serving.id)
    assert serving.queueing.run_next() == "advance"  # starts the training, which runs later
    assert len(serving.answer(5)) == 5


def test_images_that_are_added_while_a_round_is_served_are_asked_later(serving: LoopProject) -> None:
    more = serving.add(10)
    assert "sync" in serving.run()
    assert serving.round.number == 0
    for _ in range(4):
        serving.answer(ASKED)
        serving.run()
    counts = serving.store.of(serving.id).tasks.counts(0)
    assert (counts.ok, counts.unscored, counts.unsplit) == (IMAGES + 10, 0, 0)
    assert set(more) & {task for number in range(serving.round.number + 1) for task in serving.posted_ever(number)}


def test_a_queue_whose_tasks_are_deleted_goes_on_without_them(serving: LoopProject) -> None:
    first, *others = serving.queue()
    serving.person.act(serving.studio.id, "delete_tasks", [first])
    serving.run()
    assert serving.queue() == others
    assert serving.answer(3) == others
    assert serving.row.error is None


def test_what_people_change_by_hand_is_put_back_and_said(serving: LoopProject) -> None:
    serving.person.change_project(serving.studio.id, sampling="Sequential sampling")
    serving.run()
    assert serving.studio.settings().sampling == "Uncertainty sampling"
    assert serving.row.put_back


def test_predictions_that_people_delete_come_back(serving: LoopProject) -> None:
    posted = serving.posted()
    serving.person.delete_version(serving.studio.id, serving.round.model_version)
    assert serving.studio.settings().model_version == ""
    serving.run()
    assert serving.studio.settings().model_version == serving.round.model_version
    assert serving.posted() == posted


def test_an_outage_is_said_and_the_loop_goes_on_after_it(serving: LoopProject) -> None:
    def down(request: str) -> None:
        raise StudioUnreachable("http://studio cannot be reached")

    serving.server.before = down
    serving.run()
    assert serving.row.error == "http://studio cannot be reached"
    serving.server.before = lambda request: None
    serving.answer(ASKED)
    serving.run()
    assert (serving.row.error, serving.round.number) == (None, 1)


def test_an_outage_at_any_request_loses_and_doubles_nothing(loop: LoopProject) -> None:
    """Every third request of the backend fails, every other of them after it was carried out."""
    count = 0

    def fail(request: str, *, carried_out: bool) -> None:
        nonlocal count
        count += not carried_out
        if count % 3 == 0 and carried_out == (count % 2 == 0):
            raise StudioUnreachable("no answer")

    loop.connect()
    loop.server.before = lambda request: fail(request, carried_out=False)
    loop.server.after = lambda request: fail(request, carried_out=True)
    for _ in range(40):
        loop.run()
        loop.store.of(loop.id).jobs.retry_now()
    loop.server.before = loop.server.after = lambda request: None
    loop.run()
    assert (loop.round.number, loop.round.state) == (0, RoundState.LIVE)
    queue = loop.queue()
    assert set(queue) <= set(loop.posted())
    assert loop.answer(ASKED) == queue


def test_a_project_that_is_disconnected_gets_nothing_more(
    serving: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.person.disconnect_backend(serving.entry)
    serving.store.projects.set(serving.id, connected_at=0.0)  # long ago: changes what maintenance goes by, too
    before = len(serving.server.requests)
    serving.run()
    assert not serving.row.active
    assert "disconnected" in serving.row.error
    assert [one for one in serving.server.requests[before:] if not one.startswith("GET")] == []


def test_a_deleted_project_is_put_to_rest(serving: LoopProject) -> None:
    serving.person.delete_project(serving.studio.id)
    serving.run()
    assert not serving.row.active


def test_two_people_who_disagree_leave_the_image_out_of_the_training(serving: LoopProject) -> None:
    serving.person.change_project(serving.studio.id, maximum_annotations=2)
    second = serving.server.person("second")
    first, *others = serving.queue()
    serving.person.annotate(first, answer_of("left"))
    second.annotate(first, answer_of("right"))
    serving.label(others)
    serving.run()
    rounds = serving.store.of(serving.id).rounds
    assert rounds.get(0).labels == ASKED - 1
    assert serving.store.of(serving.id).tasks.counts(0).answered == ASKED


def test_skipped_images_do_not_hold_up_the_round(serving: LoopProject) -> None:
    first, *others = serving.queue()
    assert serving.person.next_task(serving.studio.id).id == first
    serving.person.skip(first)
    serving.label(others)
    serving.run()
    assert serving.round.number == 1
    assert serving.store.of(serving.id).rounds.get(0).labels == ASKED - 1
