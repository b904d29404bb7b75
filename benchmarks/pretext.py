"""The losses of a pool by the rotation task, against the paper's loop, on the same images."""

import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from backend.loop.steps.features import Encoders
from benchmarks import reference
from benchmarks.images import cifar_like, colour_images
from benchmarks.measure import Log, Measure, ratio
from model.data.bank import ImageBank
from model.encoders.registry import DEFAULT
from model.pretext.on_encoder import encoder_side, fit_rotation, rotation_losses
from model.pretext.run import PRETEXT_RECIPES, extract_losses, train_pretext

IMAGES = 3_000
STEPS, EXTRACTED = 1, 64  # of the reference, which takes hours for the whole work
OWN_IMAGES = 1_024  # of the network of our own
SAME_NETWORK_IMAGES = 256  # of ours with the reference's network, for two epochs


def run(log: Log, *, full: bool, images: int = IMAGES) -> list[Measure]:
    """Compare the head on the encoder and the network of our own with the paper's loop; ``full``: ResNet-18 too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what, pixels = cifar_like(images)
        files, bank = _files(pixels, folder), _bank(pixels, folder / "bank")
        log(f"pretext: the paper's loop, {STEPS} steps of {reference.BATCH} images and {EXTRACTED} extractions")
        pace = reference.measure_pace(files, steps=STEPS, extracted=EXTRACTED)
        log(f"pretext: {images:,} {what} with the head on the encoder, whole fit and all losses")
        head = _head(bank, folder)
        log(f"pretext: {OWN_IMAGES:,} of them with the network of our own, whole training and extraction")
        own = _own(_bank(pixels[:OWN_IMAGES], folder / "few"), folder)
        note = f"the paper's pace over {STEPS * reference.BATCH} images, times {reference.EPOCHS} epochs"
        measures = [
            ratio(f"pretext losses of {images:,} {what}, head on the encoder", "s", pace.seconds(images), head, 100,
                  note),
            ratio(f"pretext losses of {OWN_IMAGES:,} {what}, network of our own", "s", pace.seconds(OWN_IMAGES), own,
                  30, note),
        ]  # fmt: skip
        if full:
            log(f"pretext: {SAME_NETWORK_IMAGES} of them with ResNet-18, two epochs and the extraction")
            same, epochs = _same_network(pixels, folder), PRETEXT_RECIPES["auto"].plan.epochs
            measures.append(
                ratio("the same with the paper's ResNet-18 in our recipe", "s", pace.seconds(OWN_IMAGES),
                      same.seconds(OWN_IMAGES, epochs), 3.5,
                      f"our pace over {SAME_NETWORK_IMAGES} images, times {epochs} epochs")
            )  # fmt: skip
    return measures


def _head(bank: ImageBank, folder: Path) -> float:
    encoder = Encoders(folder / "encoders", "cpu").open(DEFAULT, encoder_side(bank.side))
    started = time.perf_counter()
    work, weights = folder / "ways-up", folder / "heads.pt"
    fit_rotation(bank, encoder, out=weights, work=work)
    rotation_losses(bank, encoder, weights, np.arange(len(bank)), work=work)
    return time.perf_counter() - started


def _own(bank: ImageBank, folder: Path) -> float:
    _warm_up(folder)
    started = time.perf_counter()
    train_pretext("rotation", bank, out=folder / "own.pt", checkpoint=folder / "own.part", device="cpu")
    extract_losses(bank, folder / "own.pt", device="cpu")
    return time.perf_counter() - started


def _same_network(pixels: npt.NDArray[np.uint8], folder: Path) -> reference.Pace:
    bank = _bank(pixels[:SAME_NETWORK_IMAGES], folder / "same")
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
    bank = _bank(colour_images(64, 32, seed=1), folder / "warm")
    train_pretext("rotation", bank, out=folder / "warm.pt", checkpoint=folder / "warm.part", epochs=1, device="cpu")


def _bank(pixels: npt.NDArray[np.uint8], folder: Path) -> ImageBank:
    bank = ImageBank.create(folder, pixels.shape[1])
    bank.append(pixels)
    return bank


def _files(pixels: npt.NDArray[np.uint8], folder: Path) -> list[Path]:
    files = []
    for number, image in enumerate(pixels):
        files.append(folder / f"{number:05d}.png")
        Image.fromarray(image).save(files[-1])
    return files
