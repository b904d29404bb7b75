"""The connection to a fake Label Studio: our entry among the models, webhook and tab, and what the card says."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from support.loop_project import URL, LoopProject

from backend.config import SECRET_HEADER
from backend.errors import Disconnected, StudioError, StudioRefused, StudioUnreachable
from backend.loop import model_description
from backend.loop.model_description import TWICE, write_model_description
from backend.loop.steps.maintain_connection import TAB_TITLE, connection_state, maintain_connection, own_entries
from backend.studio.types import MlBackend


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    made = LoopProject(tmp_path, monkeypatch)
    made.add(3)
    made.connect()
    yield made
    made.store.close()


def maintain(loop: LoopProject) -> None:
    maintain_connection(loop.store.of(loop.id), loop.studio)


def entry(number: int, url: str, description: str = "", version: str = "") -> MlBackend:
    return MlBackend(number, 1, url, "PT4AL", description, None, "NONE", "", "CO", version)


# Webhook and tab


def test_the_webhook_that_label_studio_made_gets_our_secret(loop: LoopProject) -> None:
    maintain(loop)
    (hook,) = loop.studio.webhooks()
    assert hook.url == f"{URL}/webhook"
    assert hook.headers[SECRET_HEADER] == loop.store.of(loop.id).webhook_secret()


def test_a_webhook_that_somebody_deleted_or_switched_off_comes_back(loop: LoopProject) -> None:
    maintain(loop)
    (hook,) = loop.studio.webhooks()
    loop.person.call("PATCH", f"/api/webhooks/{hook.id}/", {"is_active": False})
    maintain(loop)
    assert loop.studio.webhooks() == [hook]
    loop.person.call("DELETE", f"/api/webhooks/{hook.id}/")
    maintain(loop)
    assert [one.url for one in loop.studio.webhooks()] == [f"{URL}/webhook"]


def test_the_tab_is_made_once_a_queue_is_served(loop: LoopProject) -> None:
    def titles() -> list[str]:
        return [view["data"]["title"] for view in loop.person.call("GET", "/api/dm/views/", project=loop.studio.id)]

    maintain(loop)
    assert titles() == []
    state = connection_state(loop.store.of(loop.id))
    loop.serve_first()
    assert connection_state(loop.store.of(loop.id)) != state
    maintain(loop)
    maintain(loop)
    assert titles() == ["Default", TAB_TITLE]


def test_maintenance_notices_that_queue_predictions_were_deleted(loop: LoopProject) -> None:
    loop.serve_first()
    maintain(loop)
    assert loop.store.of(loop.id).rounds.counts(0).doubtful == 0
    loop.person.delete_version(loop.studio.id, "pt4al-r000")
    maintain(loop)
    assert loop.store.of(loop.id).rounds.counts(0).doubtful > 0


def test_images_of_a_source_that_failed_are_due_again(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[float] = []
    store = loop.store.of(loop.id)
    monkeypatch.setattr(store.tasks, "retry_due", called.append)
    maintain_connection(store, loop.studio)
    assert len(called) == 1


def test_answers_that_a_restored_backup_does_not_have_are_forgotten(loop: LoopProject) -> None:
    loop.serve_first()
    first, second, _ = sorted(loop.truth)
    loop.label([first, second])
    loop.advance()
    assert [loop.stored(task)[0] for task in (first, second)] == ["labeled", "labeled"]
    maintain(loop)
    assert loop.row.cursor is not None, "nothing is read again for nothing"
    for task in (first, second):  # as a backup from before has them: nothing tells of a change
        loop.server.projects[loop.studio.id].tasks[task].annotations.clear()
    maintain(loop)
    assert loop.row.cursor is None
    loop.advance()
    assert [loop.stored(task)[0] for task in (first, second)] == ["none", "none"]
    assert loop.store.of(loop.id).rounds.counts(0).answered == 0


def test_an_answer_that_is_missing_while_changes_are_unread_has_nothing_read_again(loop: LoopProject) -> None:
    loop.serve_first()
    task = min(loop.truth)
    loop.label([task])
    loop.advance()
    loop.server.projects[loop.studio.id].tasks[task].annotations.clear()
    maintain_connection(loop.store.of(loop.id), loop.studio, is_read=False)
    assert loop.row.cursor is not None


# Connected or not


def test_a_project_without_our_entry_is_disconnected(loop: LoopProject) -> None:
    loop.person.disconnect_backend(loop.entry)
    maintain(loop)  # /setup comes before the entry is listed
    loop.store.projects.set(loop.id, connected_at=0.0)
    with pytest.raises(Disconnected):
        maintain(loop)


def test_another_model_is_not_taken_for_ours_once_ours_is_known(loop: LoopProject) -> None:
    maintain(loop)
    assert loop.row.card_id == loop.entry
    write_model_description(loop.context, loop.id)
    loop.person.disconnect_backend(loop.entry)
    loop.person.connect_backend(loop.studio.id, "http://sam:9090", title="Segment anything")
    loop.store.projects.set(loop.id, connected_at=0.0)
    with pytest.raises(Disconnected):
        maintain(loop)
    assert [dict(hook.headers) for hook in loop.studio.webhooks() if "sam" in hook.url] == [{}]


def test_own_entries_go_by_address_whatever_its_scheme_then_by_id_then_by_being_the_only_one(loop: LoopProject) -> None:
    row = loop.row
    foreign = entry(98, "http://sam:9090")
    by_address = entry(99, f"https://{URL.partition('://')[2]}/")
    assert own_entries([foreign, by_address], row) == [by_address]
    assert own_entries([foreign], row) == [foreign]  # ours behind a proxy, perhaps: no description is written yet
    loop.store.projects.set(loop.id, card="round 1", card_id=97)
    row = loop.row
    assert own_entries([foreign], row) == []
    assert own_entries([replace(foreign, description="round 1")], row) == [replace(foreign, description="round 1")]
    known = entry(97, "http://behind-a-proxy:9090", "My active learning")
    assert own_entries([known, foreign], row) == [known]


@pytest.mark.parametrize("version", ["", "INITIAL", "yolo-8n", "my-pt4al-r1"])
def test_beside_other_models_ours_is_known_by_its_version(loop: LoopProject, version: str) -> None:
    other = entry(7, "http://yolo:9090", version=version)
    proxied = entry(9, "https://host/pt4al", version="pt4al-r000-pool")
    assert own_entries([other, proxied], loop.row) == [proxied]
    assert own_entries([replace(proxied, id=8), proxied], loop.row) == []  # which of the two cannot be told
    loop.store.projects.set(loop.id, card="round 1")
    assert own_entries([other, proxied], loop.row) == []  # another installation's
    assert own_entries([other, replace(proxied, description="round 1")], loop.row) != []


# What the card says


def test_the_description_is_written_once_while_its_text_stays(loop: LoopProject) -> None:
    for _ in range(3):
        write_model_description(loop.context, loop.id)
    (card,) = loop.studio.ml_backends()
    assert card.description == loop.row.card != ""
    assert loop.requests(f"PATCH /api/ml/{loop.entry}") == 1


def test_a_second_entry_of_ours_says_that_it_can_go(loop: LoopProject) -> None:
    loop.person.connect_backend(loop.studio.id, "http://other:9090")
    second = loop.person.connect_backend(loop.studio.id, f"{URL}/")
    write_model_description(loop.context, loop.id)
    texts = {card.id: card.description for card in loop.studio.ml_backends()}
    assert [texts[loop.entry].startswith(TWICE), texts[second].startswith(TWICE)] == [False, True]
    assert sum(text == "" for text in texts.values()) == 1


def test_while_answers_wait_the_description_waits_but_not_for_ever(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model_description(loop.context, loop.id)
    loop.store.projects.set(loop.id, error="trouble")
    write_model_description(loop.context, loop.id, busy=True)
    assert loop.requests("PATCH /api/ml") == 1
    monkeypatch.setattr(model_description, "LATE_S", -100.0)
    write_model_description(loop.context, loop.id, busy=True)
    assert loop.requests("PATCH /api/ml") == 2
    assert "trouble" in loop.studio.ml_backends()[0].description


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (StudioError("Label Studio refused PATCH /api/ml/1 (400: no valid URL)"), model_description.REFUSED_S),
        (StudioRefused("no token is accepted"), model_description.REFUSED_S),
        (StudioUnreachable("it failed at PATCH /api/ml/1 (500)"), model_description.FAILED_S),
    ],
)
def test_a_description_that_label_studio_does_not_take_is_tried_less_and_less_often(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch, error: StudioError, pauses: tuple[float, ...]
) -> None:
    clock, tried = [1000.0], list[float]()
    monkeypatch.setattr("backend.loop.timetable.time.monotonic", lambda: clock[0])

    def refuse(*_: object) -> bool:
        tried.append(clock[0])
        raise error

    monkeypatch.setattr(model_description, "_describe", refuse)
    for number in range(1500):  # as a worker comes by every ten seconds, for four hours, with another text each time
        loop.store.projects.set(loop.id, error=f"trouble {number}")
        write_model_description(loop.context, loop.id)
        clock[0] += 10.0
    waited = [later - sooner for sooner, later in pairwise(tried)]
    assert waited[: len(pauses)] == list(pauses)
    assert set(waited[len(pauses) :]) == {pauses[-1]}


def test_a_changed_entry_is_tried_at_once(loop: LoopProject, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def describe(*given: object) -> bool:
        told.append(given[-1])
        if len(told) < 3:
            raise StudioError("no valid URL")
        return True

    monkeypatch.setattr(model_description, "_describe", describe)
    for change in ({}, {}, {"backend_url": "http://mended:9090"}, {}, {"extra_params": {"rounds": 3}}):
        loop.store.projects.set(loop.id, **change, error=f"trouble {len(told)}")
        write_model_description(loop.context, loop.id)
    assert len(told) == 3
    assert loop.row.card == told[-1]
    assert loop.context.timetable.tried.total() == 0
