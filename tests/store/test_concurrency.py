"""Ten writers at a time, as of many web threads and workers: nothing is lost, and nothing happens twice."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import func, select
from store.conftest import connect
from store.test_schema import check_schema, check_tasks_and_asks, make_old
from store.test_task_counts import recount

from backend.errors import StoreUnavailable
from backend.store import Answer, AskRole, ProjectRow, RoundRow, Store
from backend.store.rounds import Ask
from backend.store.tables import AskRow
from backend.store.tasks import TaskChange

WRITERS = 10
T = TypeVar("T")


@pytest.fixture
def at_once() -> Callable[[Callable[[int], T]], list[T]]:
    """Run a function in ten threads that begin together, with their numbers; give what it returns."""
    together = threading.Barrier(WRITERS)

    def run(work: Callable[[int], T]) -> list[T]:
        def one(number: int) -> T:
            together.wait(60)
            return work(number)

        with ThreadPoolExecutor(WRITERS) as pool:
            return list(pool.map(one, range(WRITERS)))

    return run


def test_one_of_ten_starts_a_job(store: Store, project: ProjectRow, at_once) -> None:
    jobs = store.of(project.id).jobs
    (token,) = [token for token in at_once(lambda _: jobs.start("pretext")) if token]
    assert [job.token for job in jobs.all()] == [token]
    assert sum(at_once(lambda number: jobs.take("pretext", token, f"worker {number}"))) == 1


def test_one_of_ten_plans_a_round(store: Store, project: ProjectRow, at_once) -> None:
    rounds = store.of(project.id).rounds
    done = at_once(lambda number: rounds.plan(0, f"by {number}", [Ask(i, 0.5, AskRole.QUERY) for i in range(1, 30)]))
    assert sum(done) == 1
    assert rounds.get(0).model_version == f"by {done.index(True)}"
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(AskRow)) == 29


def test_ten_requests_connect_one_project(store: Store, at_once) -> None:
    rows = at_once(lambda number: connect(store, extra_params={"seed": number}))
    assert len({row.id for row in rows}) == 1
    assert len(store.projects.all()) == 1


def test_what_ten_steps_add_to_a_round_is_all_there(store: Store, project: ProjectRow, at_once) -> None:
    rounds = store.of(project.id).rounds
    rounds.plan(0, "r0", [])
    at_once(lambda number: rounds.add_seconds(0, **{f"step {number}": float(number)}))
    assert rounds.get(0).seconds == {f"step {number}": float(number) for number in range(WRITERS)}


def test_counts_are_right_after_ten_wrote_the_same_tasks_in_any_order(
    store: Store, project: ProjectRow, at_once
) -> None:
    tasks = store.of(project.id).tasks
    answers = [(Answer.NONE, None), (Answer.LABELED, "cat"), (Answer.SKIPPED, None)]

    def write(number: int) -> None:
        ids = range(1, 41) if number % 2 else range(40, 0, -1)
        tasks.apply([TaskChange(i, "a.png", None, *answers[(i + number) % 3]) for i in ids])
        tasks.images_fetched({i: i - 1 for i in ids})
        tasks.set_losses({i - 1: 1 / (i + number) for i in ids})

    at_once(write)  # the first of them before there are any counts
    assert tasks.counts(0.0).ok == 40
    assert tasks.counts(0.0) == recount(store, project.id, 0.0)


def test_projects_are_written_beside_each_other_and_all_of_them_by_one_alone(
    store: Store, project: ProjectRow, at_once
) -> None:
    ids = [project.id, *(connect(store, studio_project_id=number).id for number in range(2, 6))]

    def write(number: int) -> None:
        for key in ids if number % 2 else reversed(ids):
            store.of(key).rounds.plan(number, f"r{number}", [])
            store.projects.connect(
                studio_project_id=1, created_ts="1700000000", server="http://studio", token=f"token {number}",
                backend_url=None, label_config="<View/>", extra_params={},
            )  # fmt: skip
            store.projects.deactivate_replaced(key)

    at_once(write)
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(RoundRow)) == WRITERS * len(ids)


def test_a_reader_sees_one_state_while_others_write(store: Store, project: ProjectRow) -> None:
    tasks = store.of(project.id).tasks
    with store.read() as session:
        assert session.scalars(select(RoundRow.number)).all() == []
        store.of(project.id).rounds.plan(0, "r0", [])
        assert session.scalars(select(RoundRow.number)).all() == []
    assert tasks.counts(0.0).tasks == 0
    assert store.of(project.id).rounds.get(0) is not None


def test_a_writer_waits_for_another_and_gives_up_in_words(url: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("backend.store.engine.BUSY_TIMEOUT_S", 0.3)
    store = Store(url, tmp_path)
    key = connect(store).id
    with store.write(key) as session:
        session.get_one(ProjectRow, key).notice = "first"
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"lock.*the work goes on by itself"):
            store.of(key).set(notice="second")
        assert time.monotonic() - began > 0.2
    store.of(key).set(error="third")
    assert (store.of(key).row().notice, store.of(key).row().error) == ("first", "third")
    store.close()


@pytest.mark.parametrize("version", [None, "0006"])
def test_ten_machines_that_share_no_folder_open_a_database_at_once(
    url: str, tmp_path: Path, at_once, version: str | None
) -> None:
    """One of them makes the tables, or migrates them with what they hold."""
    if version is not None:
        make_old(url, version)
    stores = at_once(lambda number: Store(url, tmp_path / f"machine {number}"))
    check_schema(stores[0])
    if version is not None:
        check_tasks_and_asks(stores[-1])
    for store in stores:
        store.close()
