"""One project on two fake servers: a copy of Label Studio, a move, another name, and what a person decides."""

import time
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from support.fake_label_studio import FakeLabelStudio
from support.loop_project import PARAMS, URL, LoopProject, answer_of

from backend.config import Settings
from backend.errors import ConfigError, StudioRefused, StudioUnreachable
from backend.loop import context as context_module
from backend.loop import jobs
from backend.loop.context import Context
from backend.project_files import Files
from backend.status.status import read_status
from backend.store import AskState, ProjectRow
from backend.store.siblings import Place

OLD, NEW = "http://old.test", "http://new.test"


class Two(LoopProject):
    """A project whose first round is served by an old server, and what the backend finds at each address."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self.servers: dict[str, FakeLabelStudio] = {}
        monkeypatch.setattr(context_module, "LabelStudio", lambda server, *_: self.servers[server])
        self.put(OLD, self.server)
        self.add(6)
        self.connect()
        self.serve_first()
        self.label(sorted(self.truth)[:2])
        self.turn()

    def put(self, address: str, server: FakeLabelStudio) -> None:
        server.url = server.session.base = address
        self.servers[address] = server

    def copy(self) -> FakeLabelStudio:
        """Have a copy of the old server answer at the new address."""
        made = deepcopy(self.server)
        made.requests.clear()
        self.put(NEW, made)
        return made

    def open_model_page(self, of: FakeLabelStudio, **given: object) -> ProjectRow:
        """Hear of the project by ``/setup``, as when its Model page is opened on a server."""
        info = of.project(self.studio.id).settings()
        values = {"server": of.url, "hostname": of.url, **given}
        row, _ = self.store.projects.connect(
            studio_project_id=info.id, created_ts=str(info.created_ts), backend_url=URL,
            **{"token": None, "label_config": info.label_config, "extra_params": PARAMS, **values},  # type: ignore[arg-type]
        )  # fmt: skip
        return row

    def turn(self) -> None:
        """Look at every row as the timer does, at rest or not; no job runs."""
        context_module._label_studio.cache_clear()  # another server may be at an address now
        for row in self.store.projects.all():
            for job in self.store.of(row.id).jobs.all():
                self.store.of(row.id).jobs.finish(job.kind, job.token)
            jobs.advance(row.id)

    def rows(self) -> dict[str, ProjectRow]:
        return {row.server: row for row in self.store.projects.all()}

    def asked(self, row: ProjectRow) -> int:
        rounds = self.store.of(row.id).rounds
        current = rounds.current()
        return len(rounds.asks(current.number, states=list(AskState))) if current else 0


def silence(server: FakeLabelStudio, why: type[Exception] = StudioUnreachable) -> None:
    def fail(_: str) -> None:
        raise why(f"{server.url} cannot be reached")

    server.before = fail


def wait(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have so much time go by."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    made = Two(tmp_path, monkeypatch)
    yield made
    made.store.close()


def test_a_copy_and_the_original_both_live_and_no_answer_goes_unread(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    copy = two.copy()
    two.open_model_page(copy)
    caplog.set_level("INFO")
    two.turn()
    assert f"is on {OLD} and on {NEW}: both go on" in caplog.text
    for _ in range(3):  # as the timer does every five minutes
        two.turn()
    assert {server: row.active for server, row in two.rows().items()} == {OLD: True, NEW: True}
    assert two.asked(two.rows()[OLD]) == 6
    names = {server: two.store.projects.name_of(row) for server, row in two.rows().items()}
    assert names == {OLD: "1", NEW: f"1-{two.rows()[NEW].id}"}
    assert all(two.store.projects.named(name) == None or two.store.projects.named(name).server == server  # noqa: E711
               for server, name in names.items())  # fmt: skip
    notices = [str(read_status(two.store, row).notice) for row in two.rows().values()]
    assert [OLD in notices[1], NEW in notices[0]] == [True, True]
    # Answers are those of each server's own annotators.
    third, fourth = sorted(two.truth)[2:4]
    two.person.annotate(third, answer_of("left"))
    copy.person().annotate(fourth, answer_of("right"))
    two.turn()
    answered = {server: two.store.of(row.id).tasks.counts(0.0).labeled for server, row in two.rows().items()}
    assert answered == {OLD: 3, NEW: 3}
    assert two.store.of(two.rows()[OLD].id).tasks.targets()[-1][0] == 2


def test_what_is_written_goes_to_the_own_server_alone(two: Two) -> None:
    copy = two.copy()
    two.open_model_page(copy)
    two.turn()
    for server in two.servers.values():
        server.requests.clear()
    secrets = {}
    for server, row in two.rows().items():
        jobs.advance(row.id)
        (hook,) = two.servers[server].project(two.studio.id).webhooks()
        secrets[server] = set(hook.headers.values())
        assert secrets[server] == {two.store.projects.webhook_secret(two.rows()[server])}
    assert secrets[OLD] != secrets[NEW]
    two.servers[NEW].requests.clear()
    two.store.projects.set(two.rows()[OLD].id, error="trouble")
    jobs.advance(two.rows()[OLD].id)
    assert two.servers[NEW].requests == []


@pytest.mark.parametrize("how", ["silent", "deleted", "disconnected", "another project", "at rest"])
def test_a_project_that_moved_has_its_history_holdout_and_files_with_it(
    two: Two, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level("INFO")
    copy, old = two.copy(), two.rows()[OLD]
    asked = two.asked(old)
    if how == "silent":
        silence(two.server)
    elif how == "deleted":
        two.person.call("DELETE", f"/api/projects/{two.studio.id}/")
    elif how == "another project":
        two.server.projects[two.studio.id].created_at += timedelta(days=1)
    else:
        two.person.disconnect_backend(two.entry)
        if how == "at rest":
            two.store.projects.set(old.id, active=False)
    new = two.open_model_page(copy)
    two.turn()
    if how == "silent":
        assert {row.active for row in two.rows().values()} == {True}
        assert "does not answer" in str(two.rows()[NEW].error)
        assert copy.project(two.studio.id).settings().model_version == "pt4al-r000", "nothing is begun meanwhile"
        wait(monkeypatch, 61.0)
        two.turn()
    two.turn()
    rows = two.rows()
    assert (rows[NEW].id, rows[OLD].id) == (old.id, new.id), "what was learned has another address now"
    assert (rows[NEW].active, rows[OLD].active) == (True, False)
    assert two.asked(rows[NEW]) == asked
    assert two.store.projects.name_of(rows[NEW]) == str(two.studio.id)
    assert f"has moved from {OLD} to {NEW}" in caplog.text
    assert f"moved here from {OLD} with its history" in str(read_status(two.store, rows[NEW]).notice)
    assert NEW in str(read_status(two.store, rows[OLD]).notice)
    # It goes on there: answers are read, and the queue is that of the round.
    third = sorted(two.truth)[2]
    copy.person().annotate(third, answer_of("left"))
    two.turn()
    assert two.store.of(old.id).tasks.counts(0.0).labeled == 3
    assert two.store.of(old.id).rounds.counts(0).doubtful == 0


def test_a_project_moves_although_a_copy_of_it_lives(two: Two) -> None:
    old = two.rows()[OLD].id
    staging = two.copy()
    two.put("http://staging.test", staging)
    two.open_model_page(staging)
    two.turn()
    two.store.of(two.rows()["http://staging.test"].id).rounds.plan(0, "pt4al-r000", [])
    copy = two.copy()
    two.person.call("DELETE", f"/api/projects/{two.studio.id}/")
    two.open_model_page(copy)
    two.turn()
    two.turn()
    rows = two.rows()
    assert (rows[NEW].id, rows["http://staging.test"].active, rows[OLD].active) == (old, True, False)


def test_the_same_server_by_another_name_is_one_project(two: Two, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    old = two.rows()[OLD]
    two.servers[NEW] = two.server
    info = two.studio.settings()
    two.store.projects.connect(
        studio_project_id=info.id, created_ts=str(info.created_ts), server=NEW, hostname=NEW, token=None,
        backend_url=URL, label_config=info.label_config, extra_params=PARAMS,
    )  # fmt: skip
    former = Files.of(two.folder, two.rows()[NEW].id).folder
    two.turn()
    two.turn()
    (row,) = two.store.projects.all()
    assert not former.exists(), "the next project gets its id"
    assert (row.id, row.server, row.active) == (old.id, NEW, True)
    assert two.asked(row) == 6
    assert f"known as {OLD} before" in caplog.text


def test_a_second_name_that_is_at_rest_stays_there(two: Two) -> None:
    """As an earlier release has left it: the row of the first name rests, that of the second one works."""
    copy = two.copy()
    two.open_model_page(copy)
    two.turn()
    two.store.of(two.rows()[NEW].id).rounds.plan(0, "pt4al-r000", [])
    two.store.projects.set(two.rows()[OLD].id, active=False)
    two.servers[OLD] = copy
    for _ in range(3):
        two.turn()
    rows = two.rows()
    assert (rows[OLD].active, rows[OLD].place, rows[NEW].active) == (False, Place.SAME, True)
    assert "another name" in str(rows[OLD].place_text)


def test_a_server_that_was_only_away_has_its_history_back_where_nothing_happened(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = two.rows()[OLD].id
    before = two.server.before
    copy = two.copy()
    silence(two.server)
    two.open_model_page(copy)
    wait(monkeypatch, 61.0)
    two.turn()
    assert two.rows()[NEW].id == old
    two.server.before = before
    for _ in range(3):
        two.turn()
    rows = two.rows()
    assert (rows[OLD].id, rows[OLD].active, rows[NEW].active) == (old, True, True)
    assert two.asked(rows[OLD]) == 6
    assert two.server.project(two.studio.id).settings().model_version == "pt4al-r000"


@pytest.mark.parametrize("choice", ["take", "begin"])
def test_a_server_that_was_away_while_others_answered_asks_a_person(
    two: Two, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    before, old = two.server.before, two.rows()[OLD].id
    copy = two.copy()
    silence(two.server)
    two.open_model_page(copy)
    wait(monkeypatch, 61.0)
    two.turn()
    two.turn()
    wait(monkeypatch, 5.0)
    copy.person().annotate(sorted(two.truth)[3], answer_of("left"))
    two.turn()
    two.server.before = before
    two.server.requests.clear()
    for _ in range(3):
        two.turn()
    rows = two.rows()
    assert (rows[NEW].id, rows[OLD].place) == (old, Place.ASKED)
    assert "say below where the history belongs" in str(rows[OLD].error)
    assert not any("import/predictions" in one for one in two.server.requests), "nothing is begun until then"
    two.store.projects.set(rows[NEW].id, active=False)
    two.open_model_page(copy)
    two.turn()
    assert two.rows()[NEW].place is None
    assert two.rows()[OLD].place == Place.ASKED, "the other one's return answers nothing"
    two.store.projects.ask(rows[OLD].id, old if choice == "take" else None)
    two.turn()
    two.turn()
    rows = two.rows()
    assert rows[OLD if choice == "take" else NEW].id == old
    assert [(row.active, row.place, row.error) for row in rows.values()] == [(True, None, None)] * 2


def test_a_server_that_takes_no_token_is_not_taken_for_gone(two: Two) -> None:
    copy = two.copy()
    silence(two.server, StudioRefused)
    two.open_model_page(copy)
    two.turn()
    rows = two.rows()
    assert (rows[OLD].active, rows[NEW].active, rows[NEW].place) == (True, True, Place.ASKED)
    assert "does not take our token" in str(rows[NEW].error)


def test_a_server_that_is_no_copy_gets_no_history_unasked(two: Two) -> None:
    """Anybody may say by ``/setup`` that a project is at his server."""
    copy, old = two.copy(), two.rows()[OLD].id
    for hook in copy.projects[two.studio.id].webhooks.values():
        hook["headers"] = {}
    two.person.call("DELETE", f"/api/projects/{two.studio.id}/")
    two.open_model_page(copy)
    two.turn()
    two.turn()
    rows = two.rows()
    assert (rows[OLD].id, rows[NEW].place) == (old, Place.ASKED)
    assert "nobody can tell whether it has moved here" in str(rows[NEW].error)


def test_a_person_has_the_history_of_the_other_one_come_along(two: Two) -> None:
    copy, old = two.copy(), two.rows()[OLD].id
    new = two.open_model_page(copy).id
    two.turn()
    two.store.projects.ask(new, old)
    two.turn()
    two.turn()
    rows = two.rows()
    assert (rows[NEW].id, rows[OLD].id) == (old, new)
    assert two.store.of(old).rounds.counts(0).doubtful == 0
    assert [row.active for row in rows.values()] == [True, True]


def test_a_project_that_moves_back_has_its_history_back(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    old, before = two.rows()[OLD].id, two.server.before
    copy = two.copy()
    silence(two.server)
    two.open_model_page(copy)
    wait(monkeypatch, 61.0)
    two.turn()
    copy.person().annotate(sorted(two.truth)[3], answer_of("left"))
    two.turn()
    back = deepcopy(copy)
    two.put(OLD, back)
    back.before = before
    silence(copy)
    wait(monkeypatch, 61.0)
    two.open_model_page(back)
    two.turn()
    wait(monkeypatch, 61.0)
    two.turn()
    two.turn()
    assert (two.rows()[OLD].id, two.rows()[OLD].active) == (old, True)


# LABEL_STUDIO_URL: only one server is ever called


@pytest.fixture
def only(two: Two, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Two:
    settings = Settings(data_dir=tmp_path, device="cpu", label_studio_url=OLD)
    two.context = Context(settings, two.store, two.queueing)  # type: ignore[arg-type]
    two.store.projects.set(two.id, hostname=OLD)
    return two


def test_a_copy_of_the_only_server_is_refused_and_changes_nothing(only: Two) -> None:
    only.open_model_page(only.server, only=True)
    before = only.rows()[OLD]
    with pytest.raises(ConfigError, match=r"works for the Label Studio at LABEL_STUDIO_URL.*calls itself http://new"):
        only.open_model_page(only.copy(), server=OLD, only=True, token="theirs", label_config="<View/>")
    (row,) = only.store.projects.all()
    assert (row.hostname, row.label_config, row.token) == (OLD, before.label_config, before.token)


def test_the_only_server_by_another_name_is_taken_after_a_while(only: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    only.open_model_page(only.server, only=True)
    wait(monkeypatch, 91.0)
    row = only.open_model_page(only.server, hostname=NEW, only=True)
    assert (row.id, row.hostname, len(only.rows())) == (only.id, NEW, 1)


def test_another_only_server_has_what_was_learned(only: Two) -> None:
    copy = only.copy()
    only.context = Context(
        only.context.settings.model_copy(update={"label_studio_url": NEW}), only.store, only.queueing  # type: ignore[arg-type]
    )  # fmt: skip
    row = only.open_model_page(copy, only=True)
    only.turn()
    assert (row.id, row.server, len(only.rows())) == (only.id, NEW, 1)
    assert only.rows()[NEW].active


def test_of_two_rows_only_one_works_with_the_only_server(only: Two) -> None:
    only.open_model_page(only.copy())
    assert len(only.rows()) == 2
    only.servers[NEW].requests.clear()
    for _ in range(3):
        only.turn()
    rows = only.rows()
    assert (rows[OLD].active, rows[NEW].active) == (True, False)
    assert "is not called any more" in str(rows[NEW].error)
    assert only.servers[NEW].requests == []
