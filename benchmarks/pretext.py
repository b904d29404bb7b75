"""Training and extraction of the rotation task, against the paper's loop, on the same images."""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import reference
from benchmarks.images import colour_images
from benchmarks.measure import Log, Measure, ratio
from model.data.bank import ImageBank
from model.pretext.run import PRETEXT_RECIPES, extract_losses, train_pretext

IMAGES, SIDE = 1024, 32
STEPS, EXTRACTED = 2, 64  # of the reference, which takes an hour for the whole work
SAME_NETWORK_IMAGES = 256  # of ours with the reference's network, for two epochs


def run(log: Log) -> list[Measure]:
    """Compare the default and the paper's network with the paper's loop."""
    with tempfile.TemporaryDirectory() as folder:
        files = _files(Path(folder))
        bank = ImageBank.create(Path(folder) / "bank", SIDE)
        bank.append(np.stack([np.asarray(Image.open(file)) for file in files]))
        log(f"pretext: the paper's loop, {STEPS} steps of {reference.BATCH} images and {EXTRACTED} extractions")
        pace = reference.measure_pace(files, steps=STEPS, extracted=EXTRACTED)
        log(f"pretext: {IMAGES} images with the default network, whole training and extraction")
        default = _default(bank, Path(folder))
        log(f"pretext: {SAME_NETWORK_IMAGES} images with ResNet-18, two epochs and the extraction")
        same = _same_network(files, Path(folder))
        epochs = PRETEXT_RECIPES["auto"].plan.epochs
    theirs = pace.seconds(IMAGES)
    note = f"{IMAGES} images of {SIDE} px; the paper's pace over {STEPS * reference.BATCH} images, times 15 epochs"
    return [
        ratio("pretext training and extraction, default network", "s", theirs, default, 50, note),
        ratio("the same with the paper's ResNet-18 in our recipe", "s", theirs, same.seconds(IMAGES, epochs), 3.5,
              f"our pace over {SAME_NETWORK_IMAGES} images, times {epochs} epochs"),
    ]  # fmt: skip


def _default(bank: ImageBank, folder: Path) -> float:
    _warm_up(folder)
    started = time.perf_counter()
    train_pretext("rotation", bank, out=folder / "default.pt", checkpoint=folder / "default.part", device="cpu")
    extract_losses(bank, folder / "default.pt", device="cpu")
    return time.perf_counter() - started


def _same_network(files: list[Path], folder: Path) -> reference.Pace:
    bank = ImageBank.create(folder / "same", SIDE)
    bank.append(np.stack([np.asarray(Image.open(file)) for file in files[:SAME_NETWORK_IMAGES]]))
    seconds = []
    for epochs in (1, 2):  # the difference is an epoch without what a training does once
        started = time.perf_counter()
        train_pretext(
            "rotation", bank, out=folder / "same.pt", checkpoint=folder / f"same-{epochs}.part", network="resnet18",
            epochs=epochs, device="cpu",
        )  # fmt: skip
        seconds.append(time.perf_counter() - started)
    trained = time.perf_counter()
    extract_losses(bank, folder / "same.pt", device="cpu")
    extraction = (time.perf_counter() - trained) / len(bank)
    plan = PRETEXT_RECIPES["auto"].plan
    trained_on = plan.steps(len(bank)) * plan.batch_size  # an epoch of few images passes over them more than once
    return reference.Pace((seconds[1] - seconds[0]) / trained_on, extraction)


def _warm_up(folder: Path) -> None:
    """Have what a process does once (kernels, caches) done: the reference has its warm-up step as well."""
    bank = ImageBank.create(folder / "warm", SIDE)
    bank.append(colour_images(64, SIDE, seed=1))
    train_pretext("rotation", bank, out=folder / "warm.pt", checkpoint=folder / "warm.part", epochs=1, device="cpu")


def _files(folder: Path) -> list[Path]:
    files = []
    for number, pixels in enumerate(colour_images(IMAGES, SIDE, seed=0)):
        files.append(folder / f"{number:05d}.png")
        Image.fromarray(pixels).save(files[-1])
    return files
