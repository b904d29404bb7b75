"""Time and memory of the parts that see the whole pool, over pools of growing size, each in a process of its own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Log, Measure, limit

SIZES = (2_000, 10_000, 50_000)
LARGEST = 1_000_000
CLASSES, K, BATCHES = 10, 100, 10
ROUNDS, ASKED = 5, 200  # a thousand labels in every pool, and a round that is served
SLACK = 3.0  # times the smaller pool's cost per image: the larger one leaves the caches; quadratic would be ten times
EVENT_SLACK = 2.0
MEMORY_GIB = 2.0
ROUND_S = 15.0  # from the last answer to the next queue, at the largest of SIZES
PARTS = ("sync", "split", "noting", "first query", "predict", "query")


def run(log: Log, *, full: bool) -> list[Measure]:
    """Measure all sizes, and a million where ``full``."""
    sizes = (*SIZES, LARGEST) if full else SIZES
    found = {}
    for size in sizes:
        log(f"growth: a pool of {size:,}")
        found[size] = _in_a_process(size)
    small, middle = found[SIZES[1]], SIZES[-1]
    events = {size: found[size]["advance"] for size in sizes}
    parts = ("fit", "predict", "query")
    return [
        *(_linear(part, small[part] / SIZES[1], found[sizes[-1]][part] / sizes[-1], sizes[-1]) for part in PARTS),
        limit(f"a round on features of {middle:,} images: fit, scores and choice", "s",
              sum(found[middle][part] for part in parts), ROUND_S,
              ", ".join(f"{part} {found[middle][part]:.2f}" for part in parts)),
        Measure(f"an event in a pool of {sizes[-1]:,}, against one of {SIZES[0]:,}", "ms", 1000 * events[sizes[-1]],
                events[sizes[-1]] / events[SIZES[0]], EVENT_SLACK, "ceiling", 1000 * events[SIZES[0]],
                f"facts, decision and status; {ROUNDS * ASKED:,} labels of {ROUNDS} rounds"),
        limit(f"memory of a round over {sizes[-1]:,} images", "GiB", found[sizes[-1]]["memory_gib"], MEMORY_GIB,
              ", ".join(f"{size:,}: {found[size]['memory_gib']:.2f}" for size in sizes)),
    ]  # fmt: skip


def _linear(part: str, small: float, large: float, size: int) -> Measure:
    return Measure(
        f"{part}, an image of {size:,} against one of {SIZES[1]:,}", "ms", 1000 * large, large / small, SLACK,
        "ceiling", 1000 * small, f"{large * size:.2f} s in all",
    )  # fmt: skip


def _in_a_process(size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"growth at {size}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(size: int, folder: Path) -> dict[str, float]:
    """Return the seconds of each part, and the process's peak of memory."""
    from benchmarks.features import random_pool

    store, key, sync = _sync(size, folder)
    images = random_pool(folder, size)
    losses = np.random.default_rng(1).lognormal(-1.2, 1.0, size).astype(np.float32)
    batches, split = _split(losses)
    noting = _note(store, key, losses, batches)
    first = _first_query(store, key, images)
    serve_rounds(store, key)
    fitted, outputs, predict = _predict(store, key, images, folder)
    query = _query(store, key, outputs)
    advance = _advance(store, key)
    store.close()
    return {
        "sync": sync, "split": split, "noting": noting, "first query": first, "fit": fitted, "predict": predict,
        "query": query, "advance": advance, "memory_gib": _peak_bytes() / 2**30,
    }  # fmt: skip


def _timed(work: Callable[[], Any], repeat: int = 1) -> tuple[Any, float]:
    best, result = float("inf"), None
    for _ in range(repeat):
        started = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - started)
    return result, best


def _sync(size: int, folder: Path) -> tuple[Any, int, float]:
    """Note tasks page by page, as a synchronisation does, and their images as fetched."""
    from backend.store import Answer, Store
    from backend.store.tasks import TaskChange

    store = Store(f"sqlite:///{folder / 'growth.sqlite3'}", folder)
    row, _ = store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=None,
        label_config="<View/>",
        extra_params={},
    )  # fmt: skip

    def note() -> None:
        for start in range(0, size, 500):
            ids = range(start + 1, min(start + 500, size) + 1)
            store.of(row.id).tasks.apply([TaskChange(i, f"{i}.png", None, Answer.NONE, None) for i in ids])
            store.of(row.id).tasks.images_fetched({i: i - 1 for i in ids})

    return store, row.id, _timed(note)[1]


def _split(losses: Any) -> tuple[Any, float]:
    from model.querying.batches import split

    return _timed(lambda: split(losses, BATCHES, "interleaved"), repeat=3)


def _note(store: Any, key: int, losses: Any, batches: Any) -> float:
    def note() -> None:
        store.of(key).tasks.set_losses({i: float(loss) for i, loss in enumerate(losses)})
        store.of(key).tasks.set_batches({i: int(batch) for i, batch in enumerate(batches)})

    return _timed(note)[1]


def serve_rounds(store: Any, key: int) -> None:
    """Leave what people do: rounds that were answered and trained on, and one that is half answered."""
    from backend.store import Answer, AskRole, AskState, RoundState
    from backend.store.rounds import Ask
    from backend.store.tasks import TaskChange

    for number in range(ROUNDS + 1):
        start = number * ASKED + 1
        ids = range(start, start + ASKED)
        asks = [Ask(i, i / 1e4, AskRole.QUERY if i % 10 else AskRole.HOLDOUT, "c0", 0.5) for i in ids]
        reserve = range(ids.stop, ids.stop + ASKED)
        store.of(key).rounds.plan(number, f"r{number}", asks + [Ask(i, i / 1e4, AskRole.RESERVE) for i in reserve])
        store.of(key).rounds.mark(number, list(ids), AskState.POSTED)
        store.of(key).rounds.go_live(number)
        said = ids if number < ROUNDS else ids[: ASKED // 2]
        store.of(key).tasks.apply([TaskChange(i, f"{i}.png", None, Answer.LABELED, f"c{i % CLASSES}") for i in said])
        if number < ROUNDS:
            held = (number + 1) * ASKED // 10
            store.of(key).rounds.set(number, state=RoundState.CLOSED, closed_at=time.time(), has_model=True,
                cleaned=True,
                classes=[f"c{i}" for i in range(CLASSES)], labels=9 * held, holdout_size=held,
                holdout_quality=held // 2, holdout_squares=held // 2, holdout_change=held // 10,
                holdout_change_squares=held // 10, agreement=0.5,
            )  # fmt: skip


def _first_query(store: Any, key: int, images: Any) -> float:
    """Choose the first query from all features, as a first round does."""
    from model.learners.scaling import query_features
    from model.querying.plan import Pool, plan_round

    def ask() -> None:
        view = store.of(key).tasks.pool(store.of(key).tasks.pool_size())
        features = query_features(images.features, len(images.bank))
        pool = Pool(view.loss, None, view.available, pretext_embeddings=features)
        plan_round(0, pool, None, _settings(), np.random.default_rng(0))

    return _timed(ask)[1]


def _predict(store: Any, key: int, images: Any, folder: Path) -> tuple[float, Any, float]:
    """Fit the linear head to the labels, and say of the pool what the default sampler reads."""
    from model.learners.fitting import fit, load_model
    from model.learners.settings import FitSettings
    from model.problems import problem

    rows = [(index, int(label[1:])) for index, label, holdout in store.of(key).tasks.targets() if not holdout]
    indices, labels = np.array(rows).T
    out, names = folder / "main.pt", [f"c{i}" for i in range(CLASSES)]
    settings = FitSettings(learner="linear", device="cpu")
    part = folder / "main.part"
    fitted = _timed(
        lambda: fit(images, indices, labels, problem("single_label"), names, settings, out=out, checkpoint=part)
    )[1]
    needs = _settings().needs(ROUNDS)
    outputs, predict = _timed(lambda: load_model(out, "cpu").predict_pool(images, needs=needs))
    return fitted, outputs, predict


def _query(store: Any, key: int, outputs: Any) -> float:
    """Read the pool from the store and choose from it."""
    from model.querying.plan import Pool, plan_round

    settings = _settings()

    def ask() -> None:
        view = store.of(key).tasks.pool(store.of(key).tasks.pool_size())
        labels = np.full(len(view.task_id), -1, np.int64)
        for index, label, _ in store.of(key).tasks.targets():
            labels[index] = int(label[1:])
        pool = Pool(view.loss, view.batch, view.available, labels)
        plan_round(ROUNDS, pool, outputs, settings, np.random.default_rng(0))

    return _timed(ask, repeat=3)[1]


def _settings() -> Any:
    from model.querying.plan import QuerySettings

    return QuerySettings(
        batches=BATCHES, k=K, holdout=K // 10, reserve=2 * K, classes=CLASSES, first_query="max_herding"
    )


def _advance(store: Any, key: int) -> float:
    """Time what every event costs: the facts from the store, the decision, and the words on the model card."""
    from backend.config import ProjectConfig
    from backend.loop.decide import next_step
    from backend.loop.facts import Observation, gather
    from backend.project_files import Files
    from backend.status.status import read_status
    from backend.status.summary import as_line

    def advance() -> None:
        project = store.projects.get(key)
        next_step(gather(store.of(project.id), Files.of(store.data_dir, project.id), ProjectConfig(), Observation()))
        as_line(read_status(store, project))

    advance()
    return min(_timed(advance)[1] for _ in range(20))


def _peak_bytes() -> int:
    # The peak that getrusage gives survives exec: it would be that of the process which started this one.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(_measure(int(sys.argv[1]), Path(scratch))))
