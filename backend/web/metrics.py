"""Prometheus metrics, read from store and Redis at each scrape, so that every process answers the same."""

import shutil
import time
from collections.abc import Iterable, Sequence
from itertools import accumulate

from flask import Flask, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from backend.errors import QueueUnavailable
from backend.queueing.meters import BOUNDS_S, JOB_METER, STUDIO_METER, Timings
from backend.queueing.presence import Process, present
from backend.queueing.queues import QUEUES, Queueing
from backend.status.status import Status, read_status
from backend.store import Store
from backend.web.services import Services, services
from model.problems import problem

STAGES = ("syncing", "pretext", "recording", "labeling", "training", "finished", "failed")
PROJECT = ["server", "project"]  # ids are unique within one Label Studio only


def register(app: Flask) -> None:
    """Add ``/metrics``, for which label-studio-ml has an empty object."""
    app.add_url_rule("/metrics", "metrics", scrape, methods=["GET"])


def scrape() -> Response:
    """Return all metrics of the installation and of all active projects."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(services().store))
    registry.register(MachineCollector(services()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class StoreCollector(Collector):
    """Collects the metrics of the projects."""

    def __init__(self, store: Store) -> None:
        """Read from ``store``."""
        self._store = store

    def describe(self) -> Iterable[Metric]:
        """Return nothing: otherwise registering would read the store once more."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of all active projects."""
        statuses = [read_status(self._store, row) for row in self._store.projects.all(active=True)]
        yield from _progress(statuses)
        yield from _jobs(statuses)


class MachineCollector(Collector):
    """Collects the metrics of what all projects share: workers, disk, Redis."""

    def __init__(self, current: Services) -> None:
        """Read from these services."""
        self._services = current

    def describe(self) -> Iterable[Metric]:
        """Return nothing, as above."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the state of disk, Redis and workers, and the durations that the workers have measured."""
        data_dir = self._services.settings.data_dir
        disk = GaugeMetricFamily("pt4al_disk_free_bytes", "Free space for the data folder")
        disk.add_metric([], shutil.disk_usage(data_dir).free)
        yield disk
        try:
            yield from _measured(self._services.queueing)
        except QueueUnavailable:
            yield GaugeMetricFamily("pt4al_redis_up", "1 if Redis answers", value=0.0)
            yield from _workers([])


def _measured(queueing: Queueing) -> Iterable[Metric]:
    waiting = GaugeMetricFamily("pt4al_jobs_waiting", "Jobs that wait for a worker", labels=["queue"])
    workers = list(_workers(present(queueing)))
    for queue in QUEUES:
        waiting.add_metric([queue], queueing.depth(queue))
    yield GaugeMetricFamily("pt4al_redis_up", "1 if Redis answers", value=1.0)
    yield from (*workers, waiting)
    yield _histogram("pt4al_studio_seconds", "Calls of Label Studio's API", "call", queueing.meters.read(STUDIO_METER))
    yield _histogram(
        "pt4al_job_seconds", "Long jobs, whole or until they failed", "job", queueing.meters.read(JOB_METER)
    )


def _workers(living: Sequence[Process]) -> Iterable[Metric]:
    """Yield how many workers each queue has; none where that is not known."""
    up = GaugeMetricFamily("pt4al_worker_up", "1 if a queue has a worker", labels=["queue"])
    number = GaugeMetricFamily("pt4al_workers", "Workers of a queue, on all machines", labels=["queue"])
    for queue in QUEUES:
        serving = sum(queue in one.queues for one in living)
        up.add_metric([queue], float(serving > 0))
        number.add_metric([queue], serving)
    return up, number


def _histogram(name: str, text: str, label: str, durations: dict[tuple[str, str], Timings]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label, "outcome"])
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    for (name, outcome), timings in sorted(durations.items()):
        cumulative = accumulate(timings.buckets)
        family.add_metric([name, outcome], list(zip(bounds, cumulative, strict=True)), timings.total_s)
    return family


def _progress(statuses: list[Status]) -> Iterable[Metric]:
    stage = GaugeMetricFamily("pt4al_stage", "1 for the stage that a project is in", labels=[*PROJECT, "stage"])
    images = GaugeMetricFamily("pt4al_images", "Images by condition", labels=[*PROJECT, "state"])
    queue = GaugeMetricFamily("pt4al_queue_left", "Unanswered images in Label Studio's queue", labels=PROJECT)
    rounds = GaugeMetricFamily("pt4al_round", "The round that is served, from 0", labels=PROJECT)
    quality = GaugeMetricFamily(
        "pt4al_holdout_quality", "Mean quality of the newest measured model, from 0 to 1", labels=[*PROJECT, "metric"]
    )
    accuracy = GaugeMetricFamily("pt4al_holdout_accuracy", "The same where the metric is accuracy", labels=PROJECT)
    labels = GaugeMetricFamily("pt4al_model_labels", "Labels of the newest measured model", labels=PROJECT)
    broken = GaugeMetricFamily("pt4al_error", "1 while a project has an error", labels=PROJECT)
    for status in statuses:
        name = _name(status)
        for value in STAGES:
            stage.add_metric([*name, value], float(status.stage == value))
        for state in ("ok", "broken", "new", "labeled", "unrecorded"):
            images.add_metric([*name, state], getattr(status.tasks, state))
        queue.add_metric(name, len(status.task_ids))
        broken.add_metric(name, float(status.error is not None))
        if status.live is not None:
            rounds.add_metric(name, status.live.number)
        if status.measured is not None:
            row, holdout = status.measured
            mean = holdout.mean or 0.0
            quality.add_metric([*name, problem(row.problem).metric], mean)
            if holdout.metric.counted:
                accuracy.add_metric(name, mean)
            labels.add_metric(name, row.labels or 0)
    return stage, images, queue, rounds, quality, accuracy, labels, broken


def _jobs(statuses: list[Status]) -> Iterable[Metric]:
    key = [*PROJECT, "job"]
    progress = GaugeMetricFamily("pt4al_job_progress", "Share of a running or queued job that is done", labels=key)
    age = GaugeMetricFamily("pt4al_job_age_seconds", "Since a running or queued job was queued", labels=key)
    failures = GaugeMetricFamily("pt4al_job_failures", "Failures of a job in a row", labels=key)
    seconds = CounterMetricFamily(
        "pt4al_step_seconds", "Time that the steps of all rounds took", labels=[*PROJECT, "step"]
    )
    now = time.time()
    for status in statuses:
        name = _name(status)
        for job in status.jobs:
            failures.add_metric([*name, job.kind], job.failures)
        for kind, job in status.running.items():
            progress.add_metric([*name, kind], job.progress)
            age.add_metric([*name, kind], max(now - job.queued_at, 0.0))
        for step in sorted({step for row in status.rounds for step in row.seconds}):
            seconds.add_metric([*name, step], sum(row.seconds.get(step, 0.0) for row in status.rounds))
    return progress, age, failures, seconds


def _name(status: Status) -> list[str]:
    return [status.project.server, str(status.project.studio_project_id)]
