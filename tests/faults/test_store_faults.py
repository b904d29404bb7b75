"""The store locked, full, and on a full disk: a clear error, no corruption, and on it goes."""

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from faults.scenario import IMAGES, PARAMS, UNHARMED, damage, finish, label
from sqlalchemy import event
from support.e2e_harness import Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer, free_port
from support.namespaces import fill, on_small_disk, seen_by
from support.web_pages import connect_project

from backend.config import Settings
from backend.errors import StoreUnavailable
from backend.store import Store
from backend.store.tables import Answer
from backend.store.tasks import TaskChange
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken
from backend.web.app import create_app

FULL_S = 30
FULL = re.compile(r"disk is full|the disk has no room|No space left", re.IGNORECASE)


def tasks(first: int, count: int) -> list[TaskChange]:
    return [TaskChange(first + i, "http://images/" + "x" * 400, None, Answer.NONE, None) for i in range(count)]


def test_a_full_database_refuses_in_words_loses_nothing_and_goes_on(tmp_path: Path, figures) -> None:
    store = Store(Settings(data_dir=tmp_path).database, tmp_path)
    key = connect_project(store).id
    store.of(key).tasks.apply(tasks(1, 500))

    @event.listens_for(store.engine, "checkout")
    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    pages = 1  # SQLite takes the present size where less is asked for
    refusals = []
    writes = range(1000, 6000, 100)
    for start in writes:
        try:
            store.of(key).tasks.apply(tasks(start, 100))
        except StoreUnavailable as error:
            refusals.append(str(error))
    assert all("database or disk is full" in text for text in refusals)
    assert not any("\n" in text or "INSERT" in text for text in refusals)
    kept = store.of(key).tasks.counts(time.time()).tasks
    assert len(refusals) >= 45
    assert kept % 100 == 0, "each call is whole or not there"
    pages = 2**30
    store.of(key).tasks.apply(tasks(10_000, 100))
    assert store.of(key).tasks.counts(time.time()).tasks == kept + 100
    store.close()
    with sqlite3.connect(tmp_path / "pt4al.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    lost = 500 + 100 * (len(writes) - len(refusals)) - kept
    figures(refused_writes=len(refusals), lost=lost)
    assert lost == 0


def test_a_locked_database_is_answered_with_a_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("backend.store.engine.BUSY_TIMEOUT_S", 0.2)
    app = create_app(Settings(data_dir=tmp_path, redis_url=f"unix://{tmp_path}/none.sock"))
    connect_project(app.extensions["pt4al"].store)
    other = sqlite3.connect(tmp_path / "pt4al.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = app.test_client().post("/api/projects/3/advance")
    assert answer.status_code == 503
    assert "locked" in answer.json["error"]
    assert "sqlite" not in answer.json["error"].lower()
    other.execute("ROLLBACK")
    other.close()
    assert app.test_client().get("/api/projects/3").status_code == 200
    app.extensions["pt4al"].store.close()


# With real processes


@pytest.fixture(scope="module")
def studio(label_studio) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


@pytest.mark.e2e
@pytest.mark.faults
def test_a_database_that_somebody_locks_for_40_seconds_holds_up_and_loses_nothing(
    make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject], studio: LabelStudio, figures
) -> None:
    backend = make_backend()
    project = make_project(IMAGES, using=backend, **PARAMS)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    other = sqlite3.connect(backend.data_dir / "pt4al.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun, slowest = time.monotonic(), 0.0
    for task in queue[:11]:
        label(project, task)
    while time.monotonic() - begun < 40:
        asked = time.monotonic()
        assert backend.healthy()
        assert backend.status(project.id)["round"] == 0, "what is known is still told"
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(1)
    other.execute("ROLLBACK")
    other.close()
    status = backend.wait_round(project.id, 1)
    assert status["history"][0]["labels"] == 10
    finish(project, backend, studio, ((), ()))
    counted = damage(project, backend, studio)
    figures(locked_s=40, slowest_answer_s=round(slowest, 2), **counted)
    assert counted == UNHARMED


@pytest.mark.e2e
@pytest.mark.faults
def test_a_full_disk_is_named_and_the_work_goes_on_when_there_is_room(
    tmp_path: Path, label_studio: LabelStudioServer, make_project: Callable[..., LabelingProject], studio: LabelStudio,
    figures,
) -> None:  # fmt: skip
    """Everything of the backend lies on a disk of 64 MB, of which nothing is left while a round is answered."""
    (tmp_path / "data").mkdir()
    backend = Backend(tmp_path / "data", free_port(), LABEL_STUDIO_URL=label_studio.url)
    backend.before = on_small_disk(tmp_path / "data", "64m")
    backend.start()
    try:
        assert backend.process is not None
        backend.data_dir = seen_by(backend.process.pid, tmp_path / "data")
        project = make_project(IMAGES, using=backend, **PARAMS)
        queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
        finish(project, backend, studio, ((),))
        filler = backend.data_dir / "filler"
        fill(filler)
        for task in queue[:11]:
            label(project, task)
        begun, slowest, told = time.monotonic(), 0.0, set()
        while time.monotonic() - begun < FULL_S:
            asked = time.monotonic()
            assert backend.healthy()
            status = backend.status(project.id)
            slowest = max(slowest, time.monotonic() - asked)
            assert status["round"] == 0, "what is known is still told"
            told.add(status["error"])
            time.sleep(1)
        filler.unlink()
        freed = time.monotonic()
        status = backend.wait_round(project.id, 1, 240)
        next_round = time.monotonic() - freed
        assert status["history"][0]["labels"] == 10
        finish(project, backend, studio, ((), ()))
        wait_for("the error to go", lambda: backend.status(project.id)["error"] is None, 60)
        with closing(sqlite3.connect(backend.data_dir / "pt4al.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert all(FULL.search(text or "") for text in told)
        assert FULL.search(backend.log.read_text())
        assert not any("Traceback" in text or "Error:" in text for text in filter(None, told))
        counted = damage(project, backend, studio)
        figures(
            full_s=FULL_S, slowest_answer_s=round(slowest, 2), next_round_s=round(next_round), **counted,
            told=sorted(filter(None, told)),
        )  # fmt: skip
        assert counted == UNHARMED
    finally:
        backend.end()
