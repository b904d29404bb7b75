import time

import pytest
from sqlalchemy import update

from backend.store import JobRow, ProjectRow, Store
from backend.store.jobs import OUTAGE_RETRY_S


@pytest.fixture
def jobs(store: Store, project: ProjectRow):
    return store.of(project.id).jobs


def set_job(store: Store, **values: object) -> None:
    with store.write() as session:
        session.execute(update(JobRow).values(**values))


def test_start_gives_one_token_while_the_job_lives(jobs, project: ProjectRow) -> None:
    token = jobs.start("sync")
    assert token is not None
    assert jobs.start("sync") is None
    assert jobs.start("record") is not None
    jobs.finish("sync", token)
    assert jobs.start("sync") not in (None, token)


def test_take_lets_one_worker_begin(jobs, project: ProjectRow) -> None:
    token = jobs.start("sync")
    assert jobs.take("sync", token, "a")
    assert not jobs.take("sync", token, "b")
    assert not jobs.take("sync", "another", "b")


def test_a_silent_job_is_started_again_and_the_old_one_may_not_go_on(jobs, store: Store, project: ProjectRow) -> None:
    old = jobs.start("retrain")
    jobs.take("retrain", old, "a")
    set_job(store, heartbeat_at=time.time() - 60)
    new = jobs.start("retrain")
    assert new is not None
    assert not jobs.beat("retrain", old, 0.5)
    jobs.finish("retrain", old)
    assert [job.token for job in jobs.all()] == [new]


def test_failures_wait_twice_as_long_each_time(jobs, store: Store, project: ProjectRow) -> None:
    waits = []
    for _ in range(3):
        token = jobs.start("sync")
        waits.append(jobs.fail("sync", token, "no"))
        assert jobs.start("sync") is None
        set_job(store, retry_at=time.time() - 1)
    assert waits == [5.0, 10.0, 20.0]
    assert jobs.all()[0].error == "no"


def test_failures_of_an_outage_wait_no_longer_than_its_limit(jobs, store: Store, project: ProjectRow) -> None:
    waits = []
    for _ in range(5):
        token = jobs.start("record")
        waits.append(jobs.fail("record", token, "502", OUTAGE_RETRY_S))
        set_job(store, retry_at=time.time() - 1)
    assert waits == [5.0, 10.0, 20.0, 20.0, 20.0]


def test_retry_now_ends_the_wait(jobs, project: ProjectRow) -> None:
    jobs.fail("sync", jobs.start("sync"), "no")
    jobs.retry_now()
    assert jobs.start("sync") is not None


def test_a_failure_of_what_nothing_calls_for_is_forgotten(jobs, project: ProjectRow) -> None:
    for kind in ("sync", "record", "export"):
        token = jobs.start(kind)
        if kind != "export":
            jobs.fail(kind, token, "no")
    jobs.forget_failed({"sync", "export"})
    assert [row.kind for row in jobs.all()] == ["export", "record"]


def test_release_worker_frees_only_what_it_was_running(store: Store, project, other_project: ProjectRow) -> None:
    mine, others = store.of(project.id).jobs, store.of(other_project.id).jobs
    for jobs, worker in ((mine, "dead"), (others, "alive")):
        jobs.take("sync", jobs.start("sync"), worker)
    assert store.release_worker("dead") == 1
    assert mine.start("sync") is not None
    assert others.start("sync") is None


def test_drop_lost_drops_queued_jobs_that_redis_forgot(jobs, store: Store, project: ProjectRow) -> None:
    token = jobs.start("sync")
    assert jobs.drop_lost(lambda _: False) == 0, "Redis may not have been told yet"
    set_job(store, queued_at=time.time() - 10)
    assert jobs.drop_lost(lambda asked: asked == token) == 0
    assert jobs.drop_lost(lambda _: False) == 1
    assert jobs.start("sync") is not None


def test_a_pace_is_measured_from_the_first_sign_of_progress(store: Store, project, monkeypatch) -> None:
    token = store.of(project.id).jobs.start("pretext")
    store.of(project.id).jobs.take("pretext", token, "w")
    for now, progress in ((100.0, 0.0), (110.0, 0.5), (120.0, 0.6)):
        monkeypatch.setattr("backend.store.jobs.time.time", lambda now=now: now)
        store.of(project.id).jobs.beat("pretext", token, progress)
    (row,) = store.of(project.id).jobs.all()
    assert (row.paced_at, row.paced_from, row.progress) == (110.0, 0.5, 0.6)
