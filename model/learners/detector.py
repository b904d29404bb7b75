"""Fit a detector to boxes: a head on the frozen feature maps of the encoder, its scores calibrated out of fold."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.data.letterbox import Letterbox
from model.device import full_precision, pick_device
from model.encoders.maps import MapEncoder, open_maps
from model.errors import BadInput, ModelError
from model.evaluation.calibration import Sigmoid, fit_sigmoid
from model.learners.base import NO_NEEDS, Fitted, PoolImages, check_known, checked_labels, drawn_labels
from model.learners.folds import deal
from model.learners.kept_maps import PoolMaps
from model.learners.registry import DETECTOR, LEARNERS
from model.learners.scaling import query_features
from model.learners.settings import FitSettings
from model.networks.detection import MapDetector
from model.problems import Problem, problem
from model.problems.base import Decoding, Encoded
from model.problems.detection import Detection, scored_hits
from model.progress import Progress, ignore_progress
from model.querying.outputs import FloatArray, IntArray, Outputs
from model.training.loop import Plan, read_weights, train, write_weights

FORMAT = 1  # of the file that ``fit`` writes
PROVIDED = LEARNERS[DETECTOR].provides or NO_NEEDS
CHUNK = 16  # images of a scoring minibatch
MINIBATCH = 2  # of training: many short steps learn as much as few long ones, in half the time on a processor
LR = 2e-3
STEPS = 160, 8.0, 2400  # minibatches of a fit: at least, for each labeled image, at most
FOLDS = 2  # models that the scores are calibrated by, each trained on the other part
FOLD_SHARE = 0.5  # of the minibatches of a fit, by which each of these is trained: it has half of the labels too
FEWEST = 6  # labels below which scores stay as they are
MOST = 20, 600  # boxes of an image that are kept: twice as many as any labeled image has, within these
MOST_LABELS = 1500  # labeled images that are trained on; of more, drawn ones: their maps stay in memory
MIRRORED = 500  # labeled images up to which their mirror images are trained on too: 0.3 GB of maps
SMALLEST = 1e-4  # width and height of a box that is kept, as shares of the image
FOLD_STRIDE = 104_729  # between the seeds of the folds' models


def fit(
    pool: PoolImages,
    indices: IntArray,
    truth: Encoded,
    of: Problem,
    classes: Sequence[str],
    settings: FitSettings,
    *,
    out: Path,
    checkpoint: Path,
    pretext_weights: Path | None = None,
    progress: Progress = ignore_progress,
) -> Fitted:
    """Train a detector, as a learner of the registry does; ``truth`` is as ``Detection.encode`` gives it."""
    started = time.monotonic()
    indices, truth = _checked(pool, indices, truth, of, classes, settings.seed)
    device = pick_device(settings.device)
    encoder = _encoder(pool, settings.device)
    labeled = _Labeled.of(pool, encoder, indices, truth)
    _, folds = deal(truth, FOLDS, settings.seed)
    folds = folds if len(indices) >= FEWEST and settings.calibrated else []
    training = _Training(labeled, encoder, len(classes), device, checkpoint, settings)
    share = 1 / (1 + len(folds))  # of the progress
    most = int(np.clip(2 * (truth[:, :, 0] >= 0).sum(axis=1).max(), *MOST))
    boxes = np.full((len(truth), most, 6), -1.0, np.float32)
    for number, held in enumerate(folds):
        rest = np.setdiff1d(np.arange(len(truth)), held)
        module = training.run(rest, f"fold-{number}", lambda done, n=number: progress(share * (n + done)))  # type: ignore[misc]
        boxes[held] = labeled.detect(module, held, most, Sigmoid())
    sigmoid, decoding = Sigmoid(), {}
    if folds:
        everything = np.arange(len(truth))
        sigmoid = fit_sigmoid(*scored_hits(Outputs(boxes=boxes), everything, truth))
        scores = boxes[:, :, 4]
        boxes[:, :, 4] = np.where(scores > 0, sigmoid.apply(scores), -1.0)
        decoding = dict(of.tune(Outputs(boxes=boxes), truth, classes))
    module = training.run(np.arange(len(truth)), "all", lambda done: progress(1 - share + share * done))
    write_weights(out, {
        "format": FORMAT, "learner": DETECTOR, "problem": of.name, "classes": len(classes), "seed": settings.seed,
        "encoder": encoder.name, "side": encoder.side, "shapes": [list(shape) for shape in encoder.shapes],
        "module": module.state_dict(), "most": most, "decoding": decoding, "sigmoid": [sigmoid.slope, sigmoid.offset],
    })  # fmt: skip
    training.clean()
    return Fitted(DETECTOR, {"encoder": encoder.name, "side": encoder.side}, time.monotonic() - started)


def load(path: Path, device: str = "auto") -> "DetectorModel":
    """Load what ``fit`` wrote."""
    return DetectorModel.load(path, device)


class DetectorModel:
    """What ``fit`` wrote. encoder, side: of the feature maps that it reads. most: boxes of an image."""

    def __init__(self, content: dict[str, Any], device: str) -> None:
        """Use ``load``."""
        self.problem: Problem = problem(content["problem"])
        self.classes: int = content["classes"]
        self.decoding: Decoding = content["decoding"]
        self.encoder, self.side, self.most = content["encoder"], content["side"], content["most"]
        self.sigmoid = Sigmoid(*content["sigmoid"])
        shapes = [(int(c), int(h), int(w)) for c, h, w in content["shapes"]]
        self.network = MapDetector(shapes, self.side, self.classes)
        self.network.load_state_dict(content["module"])
        self._device = device
        self.network.to(pick_device(device)).eval()

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "DetectorModel":
        """Load a model; raise ModelError where it is missing or damaged."""
        content = read_weights(path)
        if content is None or content.get("format") != FORMAT or content.get("learner") != DETECTOR:
            raise ModelError(f"{path} holds no detector, or it is damaged")
        return cls(content, device)

    def predict_pool(
        self,
        pool: PoolImages,
        indices: IntArray | None = None,
        *,
        needs: frozenset[str] = NO_NEEDS,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return ``boxes``, calibrated, and ``embeddings``: the scaled features of the encoder's last layer.

        Images without a view get no boxes. Raises BadInput for other needs, and without views of the model's side.
        """
        beyond = needs - PROVIDED - {*self.problem.base_outputs}
        if beyond:
            raise BadInput(f"a detector does not give {', '.join(sorted(beyond))}")
        if pool.views is None or pool.views.side != self.side:
            raise BadInput(f"this model needs images with their aspect kept, of {self.side} pixels")
        whole = indices is None
        indices = np.arange(len(pool.bank)) if indices is None else np.asarray(indices, np.int64)
        known = np.flatnonzero(pool.views.knows(indices))
        kept = PoolMaps(pool, open_maps(self.encoder, self.side, pool.encoders, self._device))
        boxes = np.full((len(indices), self.most, 6), -1.0, np.float32)
        for start in range(0, len(known), CHUNK):
            part = known[start : start + CHUNK]
            places = indices[part]
            maps = [torch.from_numpy(stage) for stage in kept.of(places)]
            boxes[part] = detect(self.network, maps, pool.views.letterboxes(places), self.most, self.sigmoid)
            progress((start + len(part)) / max(len(known), 1))
        found: dict[str, FloatArray] = {"boxes": boxes}
        if "embeddings" in needs and pool.features is not None:
            features = query_features(pool.features, len(pool.bank))
            found["embeddings"] = features if whole else features[indices]
        return Outputs(**found)


def detect(
    network: MapDetector, maps: Sequence[Tensor], letterboxes: Sequence[Letterbox], most: int, sigmoid: Sigmoid
) -> FloatArray:
    """Return the boxes of each image as ``Outputs.boxes`` has them, (n, most, 6), their scores calibrated."""
    device = next(network.parameters()).device
    found = network.detect([stage.to(device) for stage in maps], [box.content for box in letterboxes], most)
    boxes = np.full((len(letterboxes), most, 6), -1.0, np.float32)
    for row, box, image in zip(boxes, letterboxes, found, strict=True):
        corners = box.to_shares(image["boxes"].cpu().numpy().reshape(-1, 2, 2)).reshape(-1, 4).clip(0, 1)
        kept = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=1.0) > SMALLEST  # cut off at the image's edge
        corners, count = corners[kept], int(kept.sum())
        row[:count, :2], row[:count, 2:4] = corners[:, :2], corners[:, 2:] - corners[:, :2]
        row[:count, 4] = sigmoid.apply(image["scores"].cpu().numpy()[kept])
        row[:count, 5] = image["labels"].cpu().numpy()[kept]
    return boxes


@dataclass(frozen=True)
class _Labeled:
    """The labeled images: their maps, where each lies in its view, and their objects in the view's pixels.

    maps: (n, C, H, W) float16 each, or of twice as many, with the mirror image of each behind all. truth: (n, M, 5).
    """

    maps: list[Tensor]
    letterboxes: list[Letterbox]
    truth: Encoded

    @classmethod
    def of(cls, pool: PoolImages, encoder: MapEncoder, indices: IntArray, truth: Encoded) -> "_Labeled":
        views = pool.views
        assert views is not None  # ``_checked`` has seen to it
        boxes, kept = views.letterboxes(indices), PoolMaps(pool, encoder)
        starts = range(0, len(indices), CHUNK)
        parts = [kept.of(indices[start : start + CHUNK]) for start in starts]
        for start in starts if len(indices) <= MIRRORED else ():
            pixels = views.gather(indices[start : start + CHUNK])
            for image, box in zip(pixels, boxes[start : start + CHUNK], strict=True):
                image[:, : box.content[0]] = image[:, : box.content[0]][:, ::-1].copy()
            parts.append(encoder.maps(pixels))
        maps = [torch.from_numpy(np.concatenate(stages)) for stages in zip(*parts, strict=True)]
        return cls(maps, boxes, truth)

    def __len__(self) -> int:
        return len(self.truth)

    def target(self, place: int, device: torch.device) -> dict[str, Tensor]:
        """Return the objects of an image, or of its mirror image, as torchvision takes them."""
        row, mirrored = place % len(self), place >= len(self)
        objects = self.truth[row][self.truth[row, :, 0] >= 0]
        box = self.letterboxes[row]
        corners = np.stack([objects[:, 1:3], objects[:, 1:3] + objects[:, 3:5]], axis=1).astype(np.float64)
        if mirrored:
            corners[:, :, 0] = 1 - corners[:, ::-1, 0]
        pixels = box.to_view(corners).reshape(-1, 4)
        return {
            "boxes": torch.from_numpy(pixels.astype(np.float32)).to(device),
            "labels": torch.from_numpy(objects[:, 0].astype(np.int64)).to(device),
        }

    def detect(self, module: MapDetector, rows: IntArray, most: int, sigmoid: Sigmoid) -> FloatArray:
        """Return the boxes that a detector gives on these images, (n, most, 6)."""
        found = [np.empty((0, most, 6), np.float32)]
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            maps = [stage[torch.from_numpy(part)] for stage in self.maps]
            found.append(detect(module, maps, [self.letterboxes[row] for row in part], most, sigmoid))
        return np.concatenate(found)


class _Objective:
    """The detector's loss on some of the labeled images, and on their mirror images."""

    def __init__(self, module: MapDetector, labeled: _Labeled, rows: IntArray, device: torch.device) -> None:
        self._module, self._labeled, self._device = module, labeled, device
        self._rows, self._mirrored = torch.from_numpy(rows), len(labeled.maps[0]) > len(labeled)

    def loss(self, positions: Tensor, generator: torch.Generator, done: float) -> Tensor:
        """Return the mean loss of the images at ``positions``, each of which may be mirrored."""
        places = self._rows[positions]
        if self._mirrored:
            places = places + len(self._labeled) * torch.randint(2, (len(places),), generator=generator)
        maps = [stage[places].to(self._device) for stage in self._labeled.maps]
        targets = [self._labeled.target(place, self._device) for place in places.tolist()]
        with full_precision(maps[0]):
            return self._module.loss(maps, targets)


@dataclass(frozen=True)
class _Training:
    """What the trainings of one fit share."""

    labeled: _Labeled
    encoder: MapEncoder
    classes: int
    device: torch.device
    checkpoint: Path
    settings: FitSettings

    def run(self, rows: IntArray, name: str, progress: Progress) -> MapDetector:
        """Return a detector that is trained on these labeled images."""
        seed = self.settings.seed + (0 if name == "all" else FOLD_STRIDE * (1 + int(name[-1])))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = MapDetector(self.encoder.shapes, self.encoder.side, self.classes)
        module.standardise([stage[torch.from_numpy(rows)] for stage in self.labeled.maps])
        module = module.to(self.device)
        identity = {
            "learner": DETECTOR, "encoder": self.encoder.name, "side": self.encoder.side, "classes": self.classes,
            "labels": hashlib.sha256(self.labeled.truth[rows].tobytes() + rows.tobytes()).hexdigest(),
        }  # fmt: skip
        objective = _Objective(module, self.labeled, rows, self.device)
        planned = plan(len(rows), self.settings.epochs, share=1.0 if name == "all" else FOLD_SHARE)
        train(
            module, objective, len(rows), planned,
            checkpoint=self._path(name), identity=identity, seed=seed, device=self.device, progress=progress,
        )  # fmt: skip
        return module

    def clean(self) -> None:
        """Delete the checkpoints."""
        for path in self.checkpoint.parent.glob(f"{self.checkpoint.name}-*"):
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.checkpoint.with_name(f"{self.checkpoint.name}-{name}")


def plan(images: int, epochs: int | None = None, share: float = 1.0) -> Plan:
    """Return how a detector is trained on so many images.

    epochs: None for as many as suit them. share: of the minibatches of a fit, where epochs are not given.
    """
    least, each, most = STEPS
    steps = share * float(np.clip(each * images, least, most))
    batch = min(MINIBATCH, images)
    passes = epochs or max(round(steps * batch / images), 1)
    return Plan(
        epochs=passes, batch_size=batch, lr=LR, weight_decay=1e-4, warmup=0.1, checkpoint_s=20.0, optimizer="adam"
    )


def _checked(
    pool: PoolImages, indices: IntArray, truth: Encoded, of: Problem, classes: Sequence[str], seed: int
) -> tuple[IntArray, Encoded]:
    """Return the labels that are trained on; raise BadInput where they, or the images, cannot be."""
    if not isinstance(of, Detection):
        raise BadInput(f"the learner '{DETECTOR}' does not fit {of.name}")
    indices, truth = checked_labels(indices, truth, of, classes)
    if pool.features is None or pool.views is None:
        raise BadInput(f"the learner '{DETECTOR}' needs an encoder, and images with their aspect kept")
    check_known(pool.views.knows(indices), "views")
    return drawn_labels(indices, truth, MOST_LABELS, seed)


def _encoder(pool: PoolImages, device: str) -> MapEncoder:
    assert pool.features is not None  # ``_checked`` has seen to it
    assert pool.views is not None
    return open_maps(pool.features.encoder, pool.views.side, pool.encoders, device)
