import time

import pytest
from sqlalchemy import update

from backend.store import JobRow, ProjectRow, Store
from backend.store.jobs import OUTAGE_RETRY_S


@pytest.fixture
def jobs(store: Store):
    return store.jobs


def set_job(store: Store, **values: object) -> None:
    with store.write() as session:
        session.execute(update(JobRow).values(**values))


def test_start_gives_one_token_while_the_job_lives(jobs, project: ProjectRow) -> None:
    token = jobs.start(project.id, "sync")
    assert token is not None
    assert jobs.start(project.id, "sync") is None
    assert jobs.start(project.id, "record") is not None
    jobs.finish(project.id, "sync", token)
    assert jobs.start(project.id, "sync") not in (None, token)


def test_take_lets_one_worker_begin(jobs, project: ProjectRow) -> None:
    token = jobs.start(project.id, "sync")
    assert jobs.take(project.id, "sync", token, "a")
    assert not jobs.take(project.id, "sync", token, "b")
    assert not jobs.take(project.id, "sync", "another", "b")


def test_a_silent_job_is_started_again_and_the_old_one_may_not_go_on(jobs, store: Store, project: ProjectRow) -> None:
    old = jobs.start(project.id, "retrain")
    jobs.take(project.id, "retrain", old, "a")
    set_job(store, heartbeat_at=time.time() - 60)
    new = jobs.start(project.id, "retrain")
    assert new is not None
    assert not jobs.beat(project.id, "retrain", old, 0.5)
    jobs.finish(project.id, "retrain", old)
    assert [job.token for job in jobs.all(project.id)] == [new]


def test_failures_wait_twice_as_long_each_time(jobs, store: Store, project: ProjectRow) -> None:
    waits = []
    for _ in range(3):
        token = jobs.start(project.id, "sync")
        waits.append(jobs.fail(project.id, "sync", token, "no"))
        assert jobs.start(project.id, "sync") is None
        set_job(store, retry_at=time.time() - 1)
    assert waits == [5.0, 10.0, 20.0]
    assert jobs.all(project.id)[0].error == "no"


def test_failures_of_an_outage_wait_no_longer_than_its_limit(jobs, store: Store, project: ProjectRow) -> None:
    waits = []
    for _ in range(5):
        token = jobs.start(project.id, "record")
        waits.append(jobs.fail(project.id, "record", token, "502", OUTAGE_RETRY_S))
        set_job(store, retry_at=time.time() - 1)
    assert waits == [5.0, 10.0, 20.0, 20.0, 20.0]


def test_retry_now_ends_the_wait(jobs, project: ProjectRow) -> None:
    jobs.fail(project.id, "sync", jobs.start(project.id, "sync"), "no")
    jobs.retry_now(project.id)
    assert jobs.start(project.id, "sync") is not None


def test_a_failure_of_what_nothing_calls_for_is_forgotten(jobs, project: ProjectRow) -> None:
    for kind in ("sync", "record", "export"):
        token = jobs.start(project.id, kind)
        if kind != "export":
            jobs.fail(project.id, kind, token, "no")
    jobs.forget_failed(project.id, {"sync", "export"})
    assert [row.kind for row in jobs.all(project.id)] == ["export", "record"]


def test_release_worker_frees_only_what_it_was_running(jobs, project: ProjectRow, other_project: ProjectRow) -> None:
    for row, worker in ((project, "dead"), (other_project, "alive")):
        jobs.take(row.id, "sync", jobs.start(row.id, "sync"), worker)
    assert jobs.release_worker("dead") == 1
    assert jobs.start(project.id, "sync") is not None
    assert jobs.start(other_project.id, "sync") is None


def test_drop_lost_drops_queued_jobs_that_redis_forgot(jobs, store: Store, project: ProjectRow) -> None:
    token = jobs.start(project.id, "sync")
    assert jobs.drop_lost(project.id, lambda _: False) == 0, "Redis may not have been told yet"
    set_job(store, queued_at=time.time() - 10)
    assert jobs.drop_lost(project.id, lambda asked: asked == token) == 0
    assert jobs.drop_lost(project.id, lambda _: False) == 1
    assert jobs.start(project.id, "sync") is not None


def test_a_pace_is_measured_from_the_first_sign_of_progress(store: Store, project, monkeypatch) -> None:
    token = store.jobs.start(project.id, "pretext")
    store.jobs.take(project.id, "pretext", token, "w")
    for now, progress in ((100.0, 0.0), (110.0, 0.5), (120.0, 0.6)):
        monkeypatch.setattr("backend.store.jobs.time.time", lambda now=now: now)
        store.jobs.beat(project.id, "pretext", token, progress)
    (row,) = store.jobs.all(project.id)
    assert (row.paced_at, row.paced_from, row.progress) == (110.0, 0.5, 0.6)
