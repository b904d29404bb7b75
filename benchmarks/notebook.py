"""What a person would do in a notebook with timm and scikit-learn, against the same work of ours."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor

from backend.loop.steps.features import Encoders
from benchmarks.images import photo
from benchmarks.measure import Log, Measure
from model.data.bank import ImageBank
from model.data.decoding import decode
from model.data.features import FeatureBank
from model.encoders.encoder import Encoder
from model.encoders.registry import DEFAULT, SIDES, encoder_info
from model.encoders.weights import load_network
from model.learners.base import PoolImages
from model.learners.fitting import fit, load_model
from model.learners.settings import FitSettings
from model.problems import problem
from model.querying.outputs import FloatArray, IntArray
from model.querying.plan import Pool, QuerySettings, plan_round

PHOTOS, POOL, LABELS, CLASSES, ASKED = 256, 5_000, 60, 10, 12
BATCH, WORKERS = 64, 2
REPEATS = 3


class Photos(Dataset[Tensor]):
    """Image files as the network takes them."""

    def __init__(self, files: Sequence[Path], side: int) -> None:
        self._files = files
        self._transform = Compose([
            Resize((side, side), InterpolationMode.BICUBIC), ToTensor(), Normalize([127 / 255] * 3, [128 / 255] * 3),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self._transform(Image.open(self._files[index]).convert("RGB"))
        return image


def run(log: Log, *, photos: int = PHOTOS, pool: int = POOL) -> list[Measure]:
    """Embed the same photos both ways, and take the same round on features both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{number:05d}.jpg" for number in range(photos)]
        for number, file in enumerate(files):
            file.write_bytes(photo(number))
        encoder = Encoders(folder / "encoders", "cpu").open(DEFAULT, SIDES[1])
        log(f"notebook: {photos} photos embedded with timm, then with ours")
        theirs, reference = _embed_with_timm(files, folder)
        ours, embedded = _embed(files, encoder)
        if np.abs(embedded[:, : encoder.last] - reference).mean() > 0.05 * np.abs(reference).mean():
            raise RuntimeError("the two ways do not embed the same")
        log(f"notebook: a round of {LABELS} labels over {pool:,} images with scikit-learn, then with ours")
        features = _spread(embedded, pool)
        labels = np.random.default_rng(1).integers(0, CLASSES, LABELS)
        labels[:CLASSES] = np.arange(CLASSES)
        fitted, scored, asked = _round(features, labels, encoder, folder)
        sklearn = _round_with_scikit_learn(features[:, : encoder.last], labels)
    return [
        Measure("embedding photos, images a second, against timm", "/s", photos / ours, theirs / ours, 1.0, "floor",
                photos / theirs, f"{photos} JPEG files of 320 x 240 at {SIDES[1]} px, decoded and embedded"),
        Measure(f"a round on features, {LABELS} labels, {pool:,} images, against scikit-learn", "s",
                fitted + scored + asked, sklearn / (fitted + scored + asked), None, "floor", sklearn,
                f"fit {fitted:.2f}, score {scored:.2f}, choose {asked:.2f} s; cross-validation, calibration and "
                "herding, which the notebook has not, are in it"),
    ]  # fmt: skip


def _embed_with_timm(files: Sequence[Path], folder: Path) -> tuple[float, FloatArray]:
    network = load_network(encoder_info(DEFAULT), folder)
    network.reset_classifier(0)  # type: ignore[operator]
    batches = DataLoader(Photos(files, SIDES[1]), BATCH, num_workers=WORKERS)
    with torch.inference_mode():
        network(torch.zeros(BATCH, 3, SIDES[1], SIDES[1]))  # what happens once
        started = time.perf_counter()
        features: FloatArray = torch.cat([network(batch) for batch in batches]).numpy()
    return time.perf_counter() - started, features


def _embed(files: Sequence[Path], encoder: Encoder) -> tuple[float, FloatArray]:
    from concurrent.futures import ThreadPoolExecutor

    def pixels(file: Path) -> FloatArray:
        return decode(file.read_bytes(), encoder.side)

    encoder.embed(np.zeros((1, encoder.side, encoder.side, 3), np.uint8))
    started = time.perf_counter()
    with ThreadPoolExecutor(8) as threads:  # as images are fetched
        decoded = threads.map(pixels, files)
        parts = []
        for start in range(0, len(files), BATCH):
            parts.append(encoder.embed(np.stack([next(decoded) for _ in files[start : start + BATCH]])))
    return time.perf_counter() - started, np.concatenate(parts)


def _spread(embedded: FloatArray, pool: int) -> FloatArray:
    """Return features of a larger pool: those that there are, each time with a little noise."""
    rows = np.resize(np.arange(len(embedded)), pool)
    noise = np.random.default_rng(0).normal(0, 0.1, (pool, embedded.shape[1]))
    spread: FloatArray = (embedded[rows] + noise * embedded.std(axis=0)).astype(np.float16)
    return spread


def _round_with_scikit_learn(features: FloatArray, labels: IntArray) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[: len(labels)].astype(np.float32), labels)
        posteriors = np.sort(model.predict_proba(features.astype(np.float32)), axis=1)
        np.argsort(posteriors[:, -1] - posteriors[:, -2])[:ASKED]
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _round(features: FloatArray, labels: IntArray, encoder: Encoder, folder: Path) -> tuple[float, float, float]:
    """Return the seconds of fit, scores and choice, as a training takes them."""
    bank = FeatureBank.create(folder / "features", encoder.name, encoder.side, encoder.dim, encoder.last)
    bank.write(np.arange(len(features)), features)
    images = ImageBank.create(folder / "bank", 8)
    images.append(np.zeros((len(features), 8, 8, 3), np.uint8))
    pool, of, labeled = PoolImages(images, bank), problem("single_label"), np.arange(len(labels))
    settings = QuerySettings(1, ASKED, classes=CLASSES, first_query="max_herding")
    known = np.full(len(features), -1, np.int64)
    known[labeled] = labels
    view = Pool(np.zeros(len(features), np.float32), None, known < 0, known)
    best = (float("inf"),) * 3
    for number in range(REPEATS):
        times = [time.perf_counter()]
        names = [f"c{one}" for one in range(CLASSES)]
        fit(pool, labeled, labels, of, names, FitSettings(learner="linear"),
            out=folder / f"{number}.pt", checkpoint=folder / f"{number}.part")  # fmt: skip
        times.append(time.perf_counter())
        outputs = load_model(folder / f"{number}.pt", "cpu").predict_pool(pool, needs=settings.needs(1))
        times.append(time.perf_counter())
        plan_round(1, view, outputs, settings, np.random.default_rng(0))
        times.append(time.perf_counter())
        taken = tuple(float(part) for part in np.diff(times))
        best = min(best, (taken[0], taken[1], taken[2]), key=sum)
    return best
