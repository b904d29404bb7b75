"""What a worker that stays saves against a process for every job, which is RQ's own way and isolates jobs better."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Log, Measure

LABELS, EPOCHS, SIDE, CLASSES = 100, 4, 32, 4


def run(log: Log) -> list[Measure]:
    """Compare the first job of a process, its start included, with the next one."""
    log("warm: a small training in a fresh process, and again in the same one")
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.warm"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    cold = time.perf_counter() - started
    warm = float(json.loads(process.stdout.readline()))
    process.wait()
    note = f"the same training of {LABELS} labels; {cold - warm:.1f} s of it are imports and first calls"
    return [
        Measure("a job in a warm worker, against a process a job", "s", warm, cold / warm, reference=cold, note=note)
    ]


def _train(folder: Path, name: str) -> None:
    from benchmarks.images import colour_images
    from model.data.bank import ImageBank
    from model.learners.own_network import FitSettings, fit_network
    from model.problems import problem
    from model.problems.base import as_vector

    bank = ImageBank.create(folder / name, SIDE)
    bank.append(colour_images(LABELS, SIDE, seed=0))
    fit_network(
        bank, np.arange(LABELS), np.arange(LABELS) % CLASSES, as_vector(problem("single_label")),
        list("abcd"[:CLASSES]),
        FitSettings(epochs=EPOCHS, device="cpu"), out=folder / f"{name}.pt", checkpoint=folder / f"{name}.part",
    )  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        _train(Path(scratch), "cold")
        print(flush=True)
        begun = time.perf_counter()
        _train(Path(scratch), "warm")
        print(json.dumps(time.perf_counter() - begun), flush=True)
