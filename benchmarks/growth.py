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

SIZES = (2_000, 10_000, 100_000)
LARGEST = 1_000_000
SIDE = 8  # pixels: what grows is the number of images
CLASSES, K, BATCHES = 10, 100, 10
ROUNDS, ASKED = 5, 200  # a thousand labels in every pool, and a round that is served
SLACK = 3.0  # times the smaller pool's cost per image: the larger one leaves the caches; quadratic would be ten times
EVENT_SLACK = 2.0
MEMORY_GIB = 2.0
PARTS = ("sync", "extraction", "split", "noting", "predict", "query", "core_set", "kmeans")


def run(log: Log, *, full: bool) -> list[Measure]:
    """Measure all sizes, and a million where ``full``."""
    sizes = (*SIZES, LARGEST) if full else SIZES
    found = {}
    for size in sizes:
        log(f"growth: a pool of {size:,}")
        found[size] = _in_a_process(size)
    small, measures = found[SIZES[1]], []
    for part in PARTS:
        size = max(size for size in sizes if found[size][part])  # core-set and k-means are not taken to the largest
        measures.append(_linear(part, small[part] / SIZES[1], found[size][part] / size, size))
    events = {size: found[size]["advance"] for size in sizes}
    return [
        *measures,
        Measure(f"an event in a pool of {sizes[-1]:,}, against one of {SIZES[0]:,}", "ms", 1000 * events[sizes[-1]],
                events[sizes[-1]] / events[SIZES[0]], EVENT_SLACK, "ceiling", 1000 * events[SIZES[0]],
                f"facts, decision and status; {ROUNDS * ASKED:,} labels of {ROUNDS} rounds"),
        _memory(f"memory of a round over {sizes[-1]:,} images", "memory_gib", found, sizes[-1]),
        _memory(f"memory with core-set and k-means over {SIZES[-1]:,}", "features_gib", found, SIZES[-1]),
    ]  # fmt: skip


def _memory(what: str, name: str, found: dict[int, dict[str, float]], size: int) -> Measure:
    smaller = ", ".join(f"{each:,}: {found[each][name]:.2f}" for each in found if each <= size)
    return limit(what, "GiB", found[size][name], MEMORY_GIB, smaller)


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
    """Return the seconds of each part, and the process's peaks of memory once a round is over, and at the end."""
    store, key, sync = _sync(size, folder)
    bank, weights = _bank(size, folder)
    losses, extraction = _extract(bank, weights)
    batches, split = _split(losses)
    noting = _note(store, key, losses, batches)
    serve_rounds(store, key)
    outputs, predict = _predict(store, key, bank, folder)
    query = _query(store, key, outputs)
    advance = _advance(store, key)
    memory = _peak_bytes()
    core, kmeans = _features(size)
    store.close()
    return {
        "sync": sync, "extraction": extraction, "split": split, "noting": noting, "predict": predict, "query": query,
        "advance": advance, "core_set": core, "kmeans": kmeans, "memory_gib": memory / 2**30,
        "features_gib": _peak_bytes() / 2**30,
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


def _bank(size: int, folder: Path) -> tuple[Any, Path]:
    from benchmarks.images import colour_images
    from model.data.bank import ImageBank
    from model.pretext.run import train_pretext

    bank = ImageBank.create(folder / "bank", SIDE)
    for start in range(0, size, 10_000):
        bank.append(colour_images(min(10_000, size - start), SIDE, seed=start))
    few = ImageBank.create(folder / "few", SIDE)
    few.append(bank.gather(np.arange(256)))
    weights = folder / "weights.pt"
    train_pretext("rotation", few, out=weights, checkpoint=folder / "part", epochs=1, device="cpu")
    return bank, weights


def _extract(bank: Any, weights: Path) -> tuple[Any, float]:
    from model.pretext.run import extract_losses

    return _timed(lambda: extract_losses(bank, weights, device="cpu"))


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


def _predict(store: Any, key: int, bank: Any, folder: Path) -> tuple[Any, float]:
    """Train on the labels, briefly, and say of the pool what the default sampler reads."""
    from model.learners.own_network import FitSettings, Learner, fit_network
    from model.problems import problem
    from model.problems.base import as_vector

    rows = [(index, int(label[1:])) for index, label, holdout in store.of(key).tasks.targets() if not holdout]
    indices, labels = np.array(rows).T
    out = folder / "main.pt"
    names, settings = [f"c{i}" for i in range(CLASSES)], FitSettings(epochs=1, device="cpu")
    of = as_vector(problem("single_label"))
    fit_network(bank, indices, labels, of, names, settings, out=out, checkpoint=folder / "main.part")
    learner = Learner.load(out, device="cpu")
    return _timed(lambda: learner.predict(bank, needs=_settings().needs(ROUNDS)))


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

    return QuerySettings(batches=BATCHES, k=K, holdout=K // 10, reserve=2 * K, classes=CLASSES)


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


def _features(size: int) -> tuple[float, float]:
    """Time core-set and k-means over embeddings of the pool; not beyond what DESIGN asks of them."""
    if size > SIZES[-1]:
        return 0.0, 0.0
    from model.querying.first_queries import FIRST_QUERIES
    from model.querying.outputs import Outputs
    from model.querying.samplers import SAMPLERS
    from model.querying.selection import Candidates

    generator = np.random.default_rng(0)
    features = generator.standard_normal((size, 256), np.float32)
    outputs = Outputs(embeddings=features, pretext_embeddings=features)
    covered = np.arange(K)
    candidates = Candidates(
        np.arange(size), np.zeros(size, np.float32), outputs, np.full(size, -1, np.int64), covered, CLASSES
    )
    return (
        _timed(lambda: SAMPLERS["core_set"].select(candidates, K, np.random.default_rng(0)))[1],
        _timed(lambda: FIRST_QUERIES["kmeans"].select(candidates, K, np.random.default_rng(0)))[1],
    )


def _peak_bytes() -> int:
    # The peak that getrusage gives survives exec: it would be that of the process which started this one.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(_measure(int(sys.argv[1]), Path(scratch))))
