"""What a person would do by hand with torchvision's detection reference, against ours: the same boxes of blood cells.

``python -m benchmarks.boxes --json FILE`` goes on where it was. Theirs is torchvision's Faster R-CNN with a feature
pyramid and the recipe of its reference (SGD at 0.02 for 16 images and in proportion for fewer, a warm-up, a tenth at 16
and 22 of 26 epochs, mirror images), at the image size of its network for small machines. Its weights of COCO are not
in any package: it starts with the ImageNet weights that ours has, and all of it is trained, for ``--times`` our time.
"""

import argparse
import csv
import io
import json
import tarfile
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from model.data.atomic_files import write_atomically
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.data.views import ViewBank
from model.encoders.registry import DEFAULT, encoder_info
from model.encoders.weights import load_network
from model.evaluation.boxes import detections, mean_average_precision
from model.lab.datasets import ImageSet, Views, load_images, set_folder
from model.learners.base import PoolImages
from model.learners.fitting import fit, load_model
from model.learners.settings import FitSettings
from model.problems.detection import Detection, as_arrays
from model.querying.outputs import FloatArray, IntArray

OF = Detection()
LABELS, SEEDS, TIMES = 40, 5, 10.0
SIDES = 320, 640  # pixels of the shorter side, and of the longer at most, as in fasterrcnn_mobilenet_v3_large_320_fpn
BATCH, LR, MOMENTUM, DECAY = 2, 0.02 * 2 / 16, 0.9, 1e-4
EPOCHS, DROPS = 26, (16, 22)
WARM_UP = 0.05  # of the minibatches; the reference has 1,000 of COCO's 190,000
WIDTH = 256  # of the pyramid
ANCHORS = ((16,), (32,), (64,), (128,))  # pixels, one of each size a level; the reference has 32 to 512, for COCO
OURS, THEIRS = "ours", "Faster R-CNN"

Found = tuple[FloatArray, IntArray, FloatArray]  # boxes as shares, classes and scores of an image, the surest first


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--labels", type=int, default=LABELS)
    parser.add_argument("--times", type=float, default=TIMES, help="of our processor's seconds, that theirs is given")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = json.loads(given.json.read_text()) if given.json.exists() else []
    cells = load_images("blood-cells")
    for seed in range(given.seeds):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(cells.train))[: given.labels])
        for way in (OURS, THEIRS):
            about = {"way": way, "seed": seed, "labels": given.labels}
            about |= {"times": given.times} if way == THEIRS else {}
            if any(about.items() <= row.items() for row in rows):
                continue
            torch.manual_seed(seed)
            if way == OURS:
                found, spent = _ours(cells, chosen, seed)
            else:
                ours = next(row for row in rows if {**row, "way": OURS, "seed": seed, "labels": given.labels} == row)
                part = given.json.with_suffix(f".{seed}.part")
                found, spent = _theirs(cells, chosen, given.times * ours["core_seconds"], part)
                part.unlink(missing_ok=True)
            rows.append({**about, **_measured(cells, found), "core_seconds": round(spent, 1)})
            write_atomically(given.json, json.dumps(rows, indent=1).encode())
            print(rows[-1], flush=True)


def _measured(cells: ImageSet, found: list[Found]) -> dict[str, float]:
    ids = {name: number for number, name in enumerate(cells.classes)}
    truth = [as_arrays(target, ids) for target in cells.targets(test=True) if target is not None]
    values = mean_average_precision(detections(found, truth, len(ids))) or (0.0, 0.0)
    return {"map50": round(values[0], 4), "map": round(values[1], 4)}


@cache
def originals() -> tuple[list[Tensor], list[Tensor]]:
    """Return the images as they are, (3, height, width) from 0 to 1: those of the pool and those of the test split."""
    folder = set_folder("blood-cells")
    parts: tuple[list[Tensor], list[Tensor]] = [], []
    with (folder / "boxes.csv").open(newline="") as rows:
        split = {row["path"]: row["split"] for row in csv.DictReader(rows)}
    with tarfile.open(folder / "blood-cells.tar") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and member.name in split:
                with Image.open(io.BytesIO(file.read())) as image:
                    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
                parts[split[member.name] == "test"].append(pixels.float() / 255)
    return parts


class Backbone(nn.Module):
    """The encoder's network with a pyramid on its maps at strides 8, 16 and 32; all weights are trained."""

    out_channels = WIDTH

    def __init__(self) -> None:
        super().__init__()
        import timm

        info = encoder_info(DEFAULT)
        self.body = timm.create_model(info.network, features_only=True, out_indices=(2, 3, 4))
        with tempfile.TemporaryDirectory() as folder:
            left, _ = self.body.load_state_dict(load_network(info, Path(folder)).state_dict(), strict=False)
        if left:
            raise RuntimeError(f"the encoder has no weights for {left[:3]}")
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), WIDTH, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the levels of the pyramid."""
        maps = OrderedDict((str(number), stage) for number, stage in enumerate(self.body(images)))
        levels: dict[str, Tensor] = self.pyramid(maps)
        return levels


def _theirs(cells: ImageSet, chosen: IntArray, budget: float, part: Path) -> tuple[list[Found], float]:
    """Return what is found on the test split, and the seconds of a training as long as the budget, or a little longer.

    It goes on from ``part``. The drops of the rate are at the reference's shares of the budget.
    """
    network = FasterRCNN(
        Backbone(), len(cells.classes) + 1, min_size=SIDES[0], max_size=SIDES[1],
        image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3,  # as the encoder's weights have it
        rpn_anchor_generator=AnchorGenerator(ANCHORS, ((0.5, 1.0, 2.0),) * len(ANCHORS)),
    )  # fmt: skip
    optimizer = torch.optim.SGD(network.parameters(), LR, MOMENTUM, weight_decay=DECAY)
    spent = 0.0
    if part.exists():
        state = torch.load(part)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        spent = state["spent"]
    images, generator = originals()[0], np.random.default_rng(len(chosen))
    targets = [_target(cells, index, images[index]) for index in chosen]
    network.train()
    started = time.process_time() - spent
    while spent < budget:
        order = generator.permutation(len(chosen))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = [_mirrored(images[chosen[row]], targets[row], generator.random() < 0.5) for row in rows]
            share = (time.process_time() - started) / budget
            for group in optimizer.param_groups:
                drops = sum(share >= drop / EPOCHS for drop in DROPS)
                group["lr"] = LR * min(share / WARM_UP, 1.0) * 0.1**drops
            optimizer.zero_grad()
            losses = network([image for image, _ in batch], [target for _, target in batch])
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        spent = time.process_time() - started
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent}
        torch.save(state, part)
    network.eval()
    return [_found(network, image) for image in originals()[1]], spent


def _target(cells: ImageSet, index: int, image: Tensor) -> dict[str, Tensor]:
    objects = (cells.train_targets or ())[index] or []
    height, width = image.shape[1:]
    corners = [(x, y, x + across, y + down) for _, x, y, across, down in objects]
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    names = [cells.classes.index(box[0]) + 1 for box in objects]  # 0 is the background
    return {"boxes": torch.tensor(corners).reshape(-1, 4) * scale, "labels": torch.tensor(names, dtype=torch.int64)}


def _mirrored(image: Tensor, target: dict[str, Tensor], mirrored: bool) -> tuple[Tensor, dict[str, Tensor]]:
    if not mirrored:
        return image, target
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = image.shape[2] - target["boxes"][:, [2, 0]]
    return image.flip(2), {**target, "boxes": boxes}


@torch.inference_mode()
def _found(network: nn.Module, image: Tensor) -> Found:
    (found,) = network([image])
    height, width = image.shape[1:]
    boxes = found["boxes"].numpy() / [width, height, width, height]
    boxes[:, 2:] -= boxes[:, :2]
    return boxes, found["labels"].numpy() - 1, found["scores"].numpy()


def _ours(cells: ImageSet, chosen: IntArray, seed: int) -> tuple[list[Found], float]:
    with tempfile.TemporaryDirectory() as name:
        folder, parts = Path(name), [part for part in (cells.train_views, cells.test_views) if part is not None]
        pool, count = _pool(folder, parts), len(cells.train)
        started = time.process_time()
        truth = OF.encode([cells.targets(test=False)[index] for index in chosen], cells.classes)
        fit(pool, chosen, truth, OF, cells.classes, FitSettings(learner="auto", seed=seed, device="cpu"),
            out=folder / "model.pt", checkpoint=folder / "part")  # fmt: skip
        spent = time.process_time() - started
        outputs = load_model(folder / "model.pt", "cpu").predict_pool(pool, count + np.arange(len(cells.test)))
    if outputs.boxes is None:
        raise RuntimeError("a detector gives boxes")
    rows = [image[image[:, 4] > 0] for image in outputs.boxes]
    return [(row[:, :4], row[:, 5].astype(np.int64), row[:, 4]) for row in rows], spent


def _pool(folder: Path, parts: Sequence[Views]) -> PoolImages:
    """Return the images as a project has them, but for features, which boxes are not learned from."""
    pixels, sizes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("pixels", "sizes"))
    bank = ImageBank.create(folder / "bank", 8)
    bank.append(np.zeros((len(sizes), 8, 8, 3), np.uint8))
    views = ViewBank.create(folder / "views", pixels.shape[1])
    views.write(np.arange(len(sizes)), pixels, sizes)
    return PoolImages(bank, FeatureBank.create(folder / "features", DEFAULT, 224, 1, 1), views, folder / "encoders")


if __name__ == "__main__":
    main()
