"""Prometheus metrics from a real store."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.problem_pages import sets_project

from backend.queueing.meters import JOB_METER, STUDIO_METER
from backend.queueing.queues import QUEUES, Queueing
from backend.store import Store


def samples(client) -> dict[tuple[str, ...], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return {
        (
            sample.name,
            *(value for name, value in sorted(sample.labels.items()) if name not in ("project", "server")),
        ): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of_projects(found: dict[tuple[str, ...], float]) -> set[str]:
    shared = {"pt4al_worker_up", "pt4al_workers", "pt4al_disk_free_bytes", "pt4al_redis_up"}
    return {name for name, *_ in found} - shared


def test_an_empty_store_gives_no_samples_of_projects(browser) -> None:
    assert of_projects(samples(browser)) == set()


def test_what_all_projects_share_is_seen_without_redis(browser) -> None:
    found = samples(browser)
    assert found["pt4al_redis_up",] == 0
    assert found["pt4al_disk_free_bytes",] > 1e6
    assert [found["pt4al_worker_up", queue] for queue in QUEUES] == [0, 0, 0]


def test_calls_and_jobs_are_counted_across_processes(browser, pages, private_redis: str) -> None:
    queueing = Queueing(private_redis)
    queueing.connection.flushall()
    pages.extensions["pt4al"].open_queueing = lambda: queueing
    for seconds in (0.02, 0.02, 2.0):
        Queueing(private_redis).meters.note(STUDIO_METER, "GET /api/projects/<id>/", seconds)
    Queueing(private_redis).meters.note(JOB_METER, "retrain", 20000.0, ok=False)
    found = samples(browser)
    queueing.connection.close()
    call = ("GET /api/projects/<id>/",)

    def bucket(bound: str) -> float:
        return found["pt4al_studio_seconds_bucket", *call, bound, "ok"]

    assert [bucket("0.01"), bucket("0.03"), bucket("1.0"), bucket("3.0"), bucket("+Inf")] == [0, 2, 2, 3, 3]
    assert found["pt4al_studio_seconds_count", *call, "ok"] == 3
    assert found["pt4al_studio_seconds_sum", *call, "ok"] == pytest.approx(2.04)
    assert found["pt4al_job_seconds_bucket", "retrain", "10000.0", "failed"] == 0
    assert found["pt4al_job_seconds_count", "retrain", "failed"] == 1
    assert found["pt4al_redis_up",] == 1
    assert found["pt4al_jobs_waiting", "advance"] == 0


def test_progress_of_a_project(browser, filled: Store) -> None:
    found = samples(browser)
    assert found["pt4al_stage", "labeling"] == 1
    assert sum(value for (name, *_), value in found.items() if name == "pt4al_stage") == 1
    assert found["pt4al_queue_left",] == 2
    assert found["pt4al_images", "ok"] == 12
    assert found["pt4al_images", "broken"] == 1
    assert found["pt4al_images", "labeled"] == 7
    assert found["pt4al_round",] == 1
    assert found["pt4al_holdout_quality", "accuracy"] == 0.8
    assert found["pt4al_holdout_accuracy",] == 0.8
    assert found["pt4al_model_labels",] == 2
    assert found["pt4al_error",] == 0
    assert found["pt4al_step_seconds_total", "retrain"] == 12.5


def test_jobs_show_progress_and_failures(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    token = filled.of(key).jobs.start("record")
    filled.of(key).jobs.fail("record", token, "no route to host")
    token = filled.of(key).jobs.start("retrain")
    filled.of(key).jobs.take("retrain", token, "w")
    filled.of(key).jobs.beat("retrain", token, 0.5)
    found = samples(browser)
    assert found["pt4al_job_failures", "record"] == 1
    assert found["pt4al_job_progress", "retrain"] == 0.5
    assert 0 <= found["pt4al_job_age_seconds", "retrain"] < 60
    assert ("pt4al_job_progress", "record") not in found
    assert found["pt4al_error",] == 1


def test_disconnected_projects_are_left_out(browser, filled: Store) -> None:
    filled.projects.set(filled.projects.find(3).id, active=False)
    assert of_projects(samples(browser)) == set()


def test_a_model_of_several_classes_is_not_called_accurate(browser, pages, tmp_path) -> None:
    sets_project(pages.extensions["pt4al"].store, tmp_path)
    found = samples(browser)
    assert 0 < found["pt4al_holdout_quality", "f1"] < 1
    assert ("pt4al_holdout_accuracy",) not in found
