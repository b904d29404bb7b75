"""Prometheus metrics from a real store."""

from prometheus_client.parser import text_string_to_metric_families

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


def test_an_empty_store_gives_no_samples(browser) -> None:
    assert samples(browser) == {}


def test_progress_of_a_project(browser, filled: Store) -> None:
    found = samples(browser)
    assert found["pt4al_stage", "labeling"] == 1
    assert sum(value for (name, *_), value in found.items() if name == "pt4al_stage") == 1
    assert found["pt4al_queue_left",] == 2
    assert found["pt4al_images", "ok"] == 12
    assert found["pt4al_images", "broken"] == 1
    assert found["pt4al_images", "labeled"] == 7
    assert found["pt4al_round",] == 1
    assert found["pt4al_holdout_accuracy",] == 0.8
    assert found["pt4al_model_labels",] == 2
    assert found["pt4al_error",] == 0
    assert found["pt4al_step_seconds_total", "retrain"] == 12.5


def test_jobs_show_progress_and_failures(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    token = filled.jobs.start(key, "record")
    filled.jobs.fail(key, "record", token, "no route to host")
    token = filled.jobs.start(key, "retrain")
    filled.jobs.take(key, "retrain", token, "w")
    filled.jobs.beat(key, "retrain", token, 0.5)
    found = samples(browser)
    assert found["pt4al_job_failures", "record"] == 1
    assert found["pt4al_job_progress", "retrain"] == 0.5
    assert 0 <= found["pt4al_job_age_seconds", "retrain"] < 60
    assert ("pt4al_job_progress", "record") not in found
    assert found["pt4al_error",] == 1


def test_disconnected_projects_are_left_out(browser, filled: Store) -> None:
    filled.projects.set(filled.projects.find(3).id, active=False)
    assert samples(browser) == {}
