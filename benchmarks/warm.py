"""What a worker that stays saves against a process for every job, which is RQ's own way and isolates jobs better."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Log, Measure

POOL, LABELS, CLASSES = 2_000, 60, 4


def run(log: Log) -> list[Measure]:
    """Compare the first job of a process, its start included, with the next one."""
    log("warm: a linear head in a fresh process, and again in the same one")
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.warm"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    cold = time.perf_counter() - started
    warm = float(json.loads(process.stdout.readline()))
    process.wait()
    note = f"a linear head of {LABELS} labels, and {POOL:,} images scored; the difference are imports and first calls"
    return [
        Measure("a job in a warm worker, against a process a job", "s", warm, cold / warm, reference=cold, note=note)
    ]


def _fit(folder: Path, name: str) -> None:
    from benchmarks.features import random_pool
    from model.learners.fitting import fit, load_model
    from model.learners.settings import FitSettings
    from model.problems import problem

    pool = random_pool(folder / name, POOL)
    fit(
        pool, np.arange(LABELS), np.arange(LABELS) % CLASSES, problem("single_label"), list("abcd"[:CLASSES]),
        FitSettings(learner="linear"), out=folder / f"{name}.pt", checkpoint=folder / f"{name}.part",
    )  # fmt: skip
    load_model(folder / f"{name}.pt", "cpu").predict_pool(pool)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        _fit(Path(scratch), "cold")
        print(flush=True)
        begun = time.perf_counter()
        _fit(Path(scratch), "warm")
        print(json.dumps(time.perf_counter() - begun), flush=True)
