"""What a person would do by hand with segmentation-models-pytorch, against ours: the same masks of street scenes.

``pip install -r benchmarks/requirements-masks.txt``, then ``python -m benchmarks.masks --json FILE``, which goes on
where it was. Their recipe is that of the library's example for these scenes (a network with an ImageNet encoder, Dice
loss, Adam at 2e-4 with a cosine, 50 epochs, flips and scaled crops of 320 pixels), with the same encoder as ours.
"""

import argparse
import csv
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from model.data.atomic_files import write_atomically
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.data.masks import IGNORED, Pixels, pack, unpack
from model.data.views import ViewBank
from model.encoders.registry import DEFAULT, encoder_info
from model.encoders.weights import load_network
from model.lab.datasets import DATA_FOLDER, DEFAULT_FOLDER, ImageSet, Views, load_images
from model.learners.base import PoolImages
from model.learners.fitting import fit, load_model
from model.learners.settings import FitSettings
from model.problems import problem
from model.problems.base import Prediction
from model.problems.segmentation import VIEW
from model.querying.outputs import IntArray

OF = problem("segmentation")
LABELS, SEEDS = 40, 5
CROP, BATCH, EPOCHS, LR = 320, 8, 50, 2e-4
MULTIPLE = 32  # of pixels, which the networks take
ENCODER = f"tu-{encoder_info(DEFAULT).network}"
WAYS = ("Unet", "DeepLabV3Plus", "ours")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--labels", type=int, default=LABELS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    rows = json.loads(given.json.read_text()) if given.json.exists() else []
    scenes = load_images("camvid")
    for seed in range(given.seeds):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(scenes.train_targets))[: given.labels])
        for way in given.ways:
            about = {"way": way, "seed": seed, "labels": given.labels}
            if way != "ours":
                about["epochs"] = given.epochs
            if any(about.items() <= row.items() for row in rows):
                continue
            torch.manual_seed(seed)
            part = given.json.with_suffix(f".{way}-{seed}.part")
            if way == "ours":
                predictions, seconds = _ours(scenes, chosen, seed)
            else:
                predictions, seconds = _theirs(scenes, chosen, way, given.epochs, part)
            miou = OF.score(predictions, scenes.test_targets, scenes.classes)
            rows.append({**about, "miou": round(miou, 4), "core_seconds": round(seconds, 1)})
            write_atomically(given.json, json.dumps(rows, indent=1).encode())
            part.unlink(missing_ok=True)
            print(rows[-1], flush=True)


@cache
def originals() -> tuple[list[Pixels], list[Pixels]]:
    """Return the scenes as they are, (height, width, 3): those of the pool and those of the test split."""
    folder = Path(os.environ.get(DATA_FOLDER) or DEFAULT_FOLDER) / "camvid"
    parts: tuple[list[Pixels], list[Pixels]] = [], []
    with tarfile.open(folder / "camvid.tar") as archive, (folder / "files.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            file = archive.extractfile(row["image"])
            if file is None:
                raise FileNotFoundError(row["image"])
            with Image.open(io.BytesIO(file.read())) as image:
                parts[row["split"] != "train"].append(np.array(image.convert("RGB")))
    return parts


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Scenes with their masks, class ids of the library: the background, which nobody painted here, is left out."""

    def __init__(self, scenes: ImageSet, chosen: IntArray) -> None:
        train, _ = originals()
        self._pixels = [train[index] for index in chosen]
        self._masks = [_ids(unpack(scenes.train_targets[index], scenes.classes)) for index in chosen]
        self._transform = v2.Compose([
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(0, scale=(0.5, 1.5), translate=(0.1, 0.1), fill={tv_tensors.Mask: IGNORED, "others": 0}),
            v2.RandomCrop(CROP),
            v2.ColorJitter(0.2, 0.2, 0.2),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = tv_tensors.Image(torch.from_numpy(self._pixels[index]).permute(2, 0, 1))
        image, mask = self._transform(image, tv_tensors.Mask(torch.from_numpy(self._masks[index])))
        return _scaled(image), mask.long()


def _ids(pixels: Pixels) -> Pixels:
    return np.where((pixels == IGNORED) | (pixels == 0), IGNORED, pixels - 1).astype(np.uint8)


def _scaled(image: Tensor) -> Tensor:
    return (image.as_subclass(Tensor).float() - 127) / 128  # as the encoder's weights have it


def _theirs(scenes: ImageSet, chosen: IntArray, way: str, epochs: int, part: Path) -> tuple[list[Prediction], float]:
    """Return the masks of the test split, and the processor's seconds of the training, which goes on from ``part``."""
    import segmentation_models_pytorch as smp

    network: nn.Module = getattr(smp, way)(ENCODER, encoder_weights=None, classes=len(scenes.classes))
    with tempfile.TemporaryDirectory() as folder:
        weights = load_network(encoder_info(DEFAULT), Path(folder)).state_dict()
    left, _ = network.encoder.model.load_state_dict(weights, strict=False)  # without the classifier
    if left:
        raise RuntimeError(f"the encoder has no weights for {left[:3]}")
    loss = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORED)
    batches = DataLoader(Scenes(scenes, chosen), BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(network.parameters(), LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches), eta_min=1e-5)
    parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    done, seconds = 0, 0.0
    if part.exists():
        state = torch.load(part)
        done, seconds = state["done"], state["seconds"]
        for name, one in parts.items():
            one.load_state_dict(state[name])
    network.train()
    started = time.process_time() - seconds
    for epoch in range(done, epochs):
        for images, masks in batches:
            optimizer.zero_grad()
            loss(network(images), masks).backward()
            optimizer.step()
            schedule.step()
        seconds = time.process_time() - started
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        torch.save({**state, "done": epoch + 1, "seconds": seconds}, part)
    network.eval()
    return [_predicted(network, pixels, scenes.classes) for pixels in originals()[1]], seconds


@torch.inference_mode()
def _predicted(network: nn.Module, pixels: Pixels, classes: Sequence[str]) -> Prediction:
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), "reflect")
    logits = network(_scaled(torch.from_numpy(padded).permute(2, 0, 1))[None])[0, :, :height, :width]
    return pack(logits.argmax(dim=0).numpy().astype(np.uint8) + 1, classes)


def _ours(scenes: ImageSet, chosen: IntArray, seed: int) -> tuple[list[Prediction], float]:
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), len(scenes.train_targets) + len(scenes.test_targets)
        pool = _pool(scenes, folder, count)
        of_test = np.arange(len(scenes.train_targets), count)
        started = time.process_time()
        truth = OF.encode([scenes.train_targets[index] for index in chosen], scenes.classes)
        fit(pool, chosen, truth, OF, scenes.classes, FitSettings(learner="auto", seed=seed, device="cpu"),
            out=folder / "model.pt", checkpoint=folder / "part")  # fmt: skip
        seconds = time.process_time() - started
        model = load_model(folder / "model.pt", "cpu")
        outputs = model.predict_pool(pool, of_test)
        return OF.decode(outputs, np.arange(len(of_test)), scenes.classes, model.decoding), seconds


def _pool(scenes: ImageSet, folder: Path, count: int) -> PoolImages:
    """Return the scenes as a project has them, but for features, which masks are not learned from."""
    bank = ImageBank.create(folder / "bank", 8)
    bank.append(np.zeros((count, 8, 8, 3), np.uint8))
    views = ViewBank.create(folder / "views", VIEW)
    parts: list[Views] = [part for part in (scenes.train_views, scenes.test_views) if part is not None]
    pixels, sizes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("pixels", "sizes"))
    views.write(np.arange(count), pixels, sizes)
    features = FeatureBank.create(folder / "features", DEFAULT, 224, 1, 1)
    return PoolImages(bank, features, views, folder / "encoders")


if __name__ == "__main__":
    main()
