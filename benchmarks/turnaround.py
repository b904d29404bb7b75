"""Projects of photos on a real Label Studio: how long people wait for the first queue, and for each after it."""

import time

from backend.demo.annotator import Annotator
from backend.loop.facts import JobKind
from backend.store import Store
from backend.store.jobs import is_alive
from benchmarks import annotators
from benchmarks.annotators import SERVED
from benchmarks.measure import Log, Measure, limit
from benchmarks.served import PATIENCE_S, ServedProject, photo_server, result_of
from benchmarks.timeline import Timeline
from benchmarks.web import Load, calls_of, web_load

IMAGES = 5_000
ALSO = (1_000,)  # images of projects of which only the first queue is timed
LARGE = 50_000  # the same where ``full``
FIRST_QUEUE_S, NEXT_QUEUE_S, LOSSES_S = 60.0, 5.0, 600.0
REST_S = 11.0  # before a round's last answer: the pace of the last ten seconds decides how many the next one asks


def run(
    person: Annotator, backend: str, store: Store, log: Log, *, full: bool = False, images: int = IMAGES,
    also: tuple[int, ...] = ALSO, labeling_s: float = annotators.SECONDS,
) -> list[Measure]:  # fmt: skip
    """Time the first queues, and all that follows in a project of ``images`` photos. ``store`` is the backend's."""
    measures = []
    with photo_server() as address:
        for size in also:
            measures.append(_first_queue_alone(ServedProject(person, backend, store, "Photos", size, address), log))
        project = ServedProject(person, backend, store, "Photos", images, address)
        measures += _one_project(project, log, labeling_s)
        if full:
            _rest(project)
            measures.append(_first_queue(ServedProject(person, backend, store, "Photos", LARGE, address), log))
    return measures


def _first_queue(project: ServedProject, log: Log) -> Measure:
    log(f"turnaround: {project.images:,} photos; connecting")
    seconds = project.first_queue()
    embedded = project.store.of(project.key).tasks.counts(0).ok
    what = f"connecting to first queue live, {project.images:,} photos"
    return limit(what, "s", seconds, FIRST_QUEUE_S, f"chosen from {embedded:,} that were embedded by then")


def _first_queue_alone(project: ServedProject, log: Log) -> Measure:
    measure = _first_queue(project, log)
    _rest(project)
    return measure


def _rest(project: ServedProject) -> None:
    """Delete the project, and wait until nothing is done for it any more: it would go on beside what follows."""
    jobs, deadline = project.store.of(project.key).jobs, time.perf_counter() + PATIENCE_S
    project.person.call("DELETE", f"/api/projects/{project.id}/")
    while any(is_alive(job, time.time()) for job in jobs.all()):
        if time.perf_counter() > deadline:
            raise TimeoutError(f"jobs of a deleted project still run after {PATIENCE_S:.0f} s")
        time.sleep(0.5)


def _one_project(project: ServedProject, log: Log, labeling_s: float) -> list[Measure]:
    connected = time.perf_counter()
    first = _first_queue(project, log)
    early, _, parts = _next_queue(project, 0)
    log(f"turnaround: next queue {early:.1f} s after the last answer; web: 100 requests a second meanwhile")
    loads = web_load(project.backend, calls_of(project.person, project.id))
    embedded = losses = None
    while embedded is None or losses is None:
        counts, now = project.store.of(project.key).tasks.counts(time.time()), time.perf_counter()
        embedded = embedded or (now - connected if counts.ok == project.images else None)
        losses = losses or (now - connected if embedded and counts.unscored == 0 else None)
        if now - connected > PATIENCE_S:
            raise TimeoutError(f"no losses after {PATIENCE_S:.0f} s: {project.status()}")
        time.sleep(0.5)
    log(f"turnaround: embedded after {embedded:.0f} s, losses known after {losses:.0f} s")
    _wait_until_idle(project)
    number = project.status()["round"]
    settled, strays, settled_parts = _next_queue(project, number)
    log(f"turnaround: next queue {settled:.1f} s after the last answer; three annotators for {labeling_s:.0f} s")
    size = f"{project.images:,} photos"
    return [
        first,
        limit(f"last answer to next queue live, {size}", "s", settled, NEXT_QUEUE_S, settled_parts),
        limit("the same while features and losses are still made", "s", early, None, parts),
        limit("random tasks served meanwhile", "tasks", float(strays), 0),
        limit(f"{size} embedded and their losses known", "s", losses, LOSSES_S, f"embedded after {embedded:.0f} s"),
        *annotators.run(project, labeling_s),
        *_web_measures(loads),
    ]  # fmt: skip


def _wait_until_idle(project: ServedProject) -> None:
    """Wait until nothing is done for the project but recording, which makes way."""
    jobs, deadline = project.store.of(project.key).jobs, time.perf_counter() + PATIENCE_S
    while (
        any(job.kind != JobKind.RECORD for job in jobs.all())
        or project.store.of(project.key).tasks.counts(time.time()).unscored
    ):
        if time.perf_counter() > deadline:
            raise TimeoutError(f"the workers are not idle after {PATIENCE_S:.0f} s: {project.status()}")
        time.sleep(0.5)


def _next_queue(project: ServedProject, number: int) -> tuple[float, int, str]:
    """Answer round ``number``; return the seconds to the next queue, the random tasks served meanwhile, and its steps.

    A task that a person has opened stays theirs when the round is switched: Label Studio serves it again, without the
    predictions of the round that it came from.
    """
    person, rounds = project.person, project.store.of(project.key).rounds
    queue = project.wait(lambda status: status["queue"]["model_version"] == f"pt4al-r{number:03d}")["queue"]
    left = queue["size"] - queue["answered"]
    while left > 0:
        task = person.next_task(project.id)
        if task is None:
            raise LookupError(f"Label Studio serves nothing: {project.status()}")
        if left == 1:
            time.sleep(REST_S)
        person.annotate(task.id, result_of(task.data))
        left -= task.id in {ask.task_id for ask in rounds.asks(number, states=SERVED)}
    last, strays, opened = time.time(), 0, set[int]()
    with Timeline(project.store, project.key, number) as timeline:
        while project.live_version() != f"pt4al-r{number + 1:03d}":
            known = set(project.status()["queue"]["task_ids"])
            task = person.next_task(project.id)
            if task is not None and any(one["model_version"].startswith("pt4al-r") for one in task.predictions):
                opened.add(task.id)
            elif task is not None and task.id not in known | opened:
                strays += 1
            if time.time() - last > PATIENCE_S:
                raise TimeoutError(f"no next round after {PATIENCE_S:.0f} s: {project.status()}")
            time.sleep(0.25)
        turned = time.time()
        # Label Studio has it a moment before the store.
        project.wait(lambda status: status["queue"]["model_version"] == f"pt4al-r{number + 1:03d}")
    parts = ", ".join(f"{name} {value:.1f}" for name, value in timeline.parts(last, turned).items())
    return turned - last, strays, parts


def _web_measures(loads: dict[str, Load]) -> list[Measure]:
    return [
        limit(f"{path} p99, 100 requests a second, workers busy", "ms", 1000 * load.p99, 100,
              f"{load.requests} requests, p50 {1000 * load.p50:.1f} ms")
        for path, load in loads.items()
    ] + [
        limit("requests of these that were not answered with success", "requests",
              float(sum(load.failures for load in loads.values())), 0,
              "; ".join(f"{path}: {load.refusal}" for path, load in loads.items() if load.refusal)),
    ]  # fmt: skip
