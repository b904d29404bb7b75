"""A light decoder on the frozen feature maps of an encoder, which gives a class to each pixel."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model.data.letterbox import Letterbox
from model.data.masks import IGNORED
from model.data.views import ViewBank
from model.device import pick_device
from model.encoders.maps import MapEncoder, open_maps
from model.errors import BadInput, ModelError
from model.learners.base import NO_NEEDS, Fitted, PoolImages, check_known, checked_labels, drawn_labels
from model.learners.kept_maps import PoolMaps
from model.learners.registry import DECODER
from model.learners.scaling import query_features
from model.learners.settings import FitSettings
from model.networks.decoder import Decoder
from model.problems import Problem, problem
from model.problems.base import Decoding, Encoded
from model.problems.segmentation import COLUMNS, GRID, VIEW
from model.progress import Progress, ignore_progress
from model.querying.outputs import FEATURES, FloatArray, IntArray, Outputs
from model.training.loop import read_weights, write_weights

FORMAT = 1  # of the file that ``fit`` writes
STEPS = 400  # minibatches of a fit
BATCH = 8  # images
LR, WEIGHT_DECAY = 3e-3, 1e-2
VARIANTS = 4  # of each image: as it is, mirrored, and both with other colours
MOST_VARIED = 256 * 1024**2  # bytes of feature maps that a fit keeps: of many images, fewer variants
MOST_LABELS = 800  # labeled images that are trained on; of more, drawn ones: their maps stay in memory
RAREST = 1e-4  # share of the pixels from which on a class weighs no more
LEAST_SHARE = 0.1  # of the pixels, which the least certain ones are
PLACE_WIDTH = 64  # numbers of a place's features
SCORED = 16  # images of a minibatch that are scored

UInt8 = npt.NDArray[np.uint8]
Maps = list[FloatArray]  # (n, C, h, w) float16 each, finest first


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
    """Fit a decoder, see ``LearnerCode.fit``. It takes about a minute and starts anew after a kill."""
    started = time.monotonic()
    views = _views(pool)
    indices, truth = checked_labels(indices, truth, of, classes)
    check_known(views.knows(indices), "views")
    indices, truth = drawn_labels(indices, truth, MOST_LABELS, settings.seed)  # a copy, whose padding is ignored below
    encoder = open_maps(_encoder_of(pool), VIEW, pool.encoders, settings.device)
    boxes = views.letterboxes(indices)
    for mask, box in zip(truth, boxes, strict=True):
        width, height = Letterbox(box.width, box.height, GRID).content
        mask[height:], mask[:, width:] = IGNORED, IGNORED
    seen = np.bincount(truth.ravel(), minlength=256)[: len(classes) + 1] > 0
    if not seen.any():
        raise BadInput(f"nothing in the masks of {len(indices)} images can be learned: all of it is ignored")
    device = pick_device(settings.device)
    data = _Labeled.of(pool, encoder, indices, truth, settings.seed, lambda done: progress(0.5 * done))
    torch.manual_seed(settings.seed)
    widths = [shape[0] for shape in encoder.shapes]
    network = Decoder(widths, len(classes) + 1).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    _train(network, data, settings.seed, device, lambda done: progress(0.5 + 0.5 * done))
    write_weights(out, {
        "format": FORMAT, "learner": DECODER, "problem": of.name, "classes": len(classes), "seed": settings.seed,
        "encoder": encoder.name, "widths": widths, "network": network.state_dict(),
        "seen": torch.from_numpy(seen),
    })  # fmt: skip
    progress(1.0)
    return Fitted(DECODER, {"encoder": encoder.name, "variants": len(data.maps)}, time.monotonic() - started)


def load(path: Path, device: str = "auto") -> "DecoderModel":
    """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
    content = read_weights(path)
    if content is None or content.get("format") != FORMAT or content.get("learner") != DECODER:
        raise ModelError(f"{path} holds no decoder, or it is damaged")
    return DecoderModel(content, device)


class DecoderModel:
    """What ``fit`` wrote. encoder: whose maps it reads."""

    def __init__(self, content: dict[str, Any], device: str = "auto") -> None:
        """Use ``load``."""
        self.problem: Problem = problem(content["problem"])
        self.classes: int = content["classes"]
        self.decoding: Decoding = {}
        self.encoder: str = content["encoder"]
        self._device_name, self._device = device, pick_device(device)
        self._network = Decoder(content["widths"], self.classes + 1)
        self._network.load_state_dict(content["network"])
        self._network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        # A class without a pixel is never predicted: else the background would be, where all is painted or ignored.
        self._never = ~content["seen"].to(self._device)

    @torch.inference_mode()
    def predict_pool(
        self,
        pool: PoolImages,
        indices: IntArray | None = None,
        *,
        needs: frozenset[str] = NO_NEEDS,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return masks and how certain they are, ``embeddings``, the scaled features of the encoder, and ``places``.

        Images without a view get neutral values. Raises BadInput for other needs, and without views.
        """
        beyond = needs - self.problem.outputs
        if beyond:
            raise BadInput(f"a decoder does not give {', '.join(sorted(beyond))}")
        views = _views(pool)
        whole = indices is None
        indices = np.arange(len(pool.bank)) if indices is None else np.asarray(indices, np.int64)
        known = np.flatnonzero(views.knows(indices))
        maps = np.full((len(indices), GRID, GRID), IGNORED, np.uint8)
        values = np.zeros((len(indices), COLUMNS), np.float32)
        kept = PoolMaps(pool, open_maps(self.encoder, VIEW, pool.encoders, self._device_name)) if len(known) else None
        places = _Places(len(indices)) if "places" in needs else None
        for start in range(0, len(known), SCORED):
            part = known[start : start + SCORED]
            assert kept is not None
            found = kept.of(indices[part])
            self._score(found, views.letterboxes(indices[part]), maps, values, part)
            if places is not None:
                places.add(part, found[-1])
            progress((start + len(part)) / len(known))
        unknown = np.setdiff1d(np.arange(len(indices)), known)
        values[unknown] = values[known].mean(axis=0) if len(known) else 0.0
        if not np.isfinite(values).all():
            raise ModelError("the decoder's outputs are not finite numbers: it has diverged")
        embeddings = None
        if "embeddings" in needs:
            if pool.features is None:
                raise BadInput("embeddings are the features of an encoder, which are not there")
            features = query_features(pool.features, len(pool.bank))
            embeddings = features if whole else features[indices]
        shown = None if places is None else places.rows
        return Outputs(class_maps=maps, values=values, embeddings=embeddings, places=shown)

    def _score(self, whole: Maps, boxes: Sequence[Letterbox], maps: UInt8, values: FloatArray, rows: IntArray) -> None:
        """Write what the decoder says of images of these feature maps into the rows of ``maps`` and ``values``."""
        found, extent = _cut(whole, [box.content for box in boxes])
        logits = self._network([_tensor(part, self._device) for part in found])
        logits[:, self._never] = -torch.inf
        size = (extent[1] * GRID // VIEW, extent[0] * GRID // VIEW)
        posteriors = functional.interpolate(logits.softmax(dim=1), size=size, mode="bilinear")
        for row, box, own in zip(rows.tolist(), boxes, posteriors, strict=True):
            width, height = Letterbox(box.width, box.height, GRID).content
            content = own[:, :height, :width]
            maps[row, :height, :width] = content.argmax(dim=0).cpu().numpy()
            values[row] = certainty(content).cpu().numpy()


def certainty(posteriors: Tensor) -> Tensor:
    """Return the columns of ``values`` (COLUMNS,) of an image's posteriors (C + 1, H, W), the background first."""
    flat = posteriors.flatten(1)
    two = flat.topk(2, dim=0).values
    entropy = -(flat * flat.clamp_min(1e-12).log()).sum(dim=0) / float(np.log(len(flat)))
    least = two[0].sort().values[: max(round(LEAST_SHARE * flat.shape[1]), 1)].mean()
    # Expected hits over the expected union of each class that is predicted anywhere.
    chosen = functional.one_hot(flat.argmax(dim=0), len(flat)).T[1:]
    hits, area, mass = (flat[1:] * chosen).sum(dim=1), chosen.sum(dim=1), flat[1:].sum(dim=1)
    iou = hits / (area + mass - hits).clamp_min(1e-12)
    predicted = area > 0
    expected = iou[predicted].mean() if bool(predicted.any()) else flat[0].mean()
    return torch.stack([two[0].mean(), (two[0] - two[1]).mean(), entropy.mean(), least, expected])


class _Places:
    """The features of the places of images, for samplers: the coarsest map, projected to PLACE_WIDTH numbers.

    The projection is random and always the same; it keeps distances to within some percent (Johnson and Lindenstrauss
    1984). rows: (n, P, PLACE_WIDTH) in FEATURES, zero where nothing was added.
    """

    def __init__(self, images: int) -> None:
        self.rows: FloatArray = np.zeros((images, 0, PLACE_WIDTH), FEATURES)

    def add(self, rows: IntArray, coarsest: FloatArray) -> None:
        """Write those of the coarsest maps (n, C, H, W) of these rows, scaled as features of images are."""
        n, channels, height, width = coarsest.shape
        if not self.rows.shape[1]:
            self.rows = np.zeros((len(self.rows), height * width, PLACE_WIDTH), FEATURES)
        cells = coarsest.astype(np.float32).transpose(0, 2, 3, 1).reshape(n, height * width, channels)
        projection = np.random.default_rng(0).normal(0, channels**-0.5, (channels, PLACE_WIDTH)).astype(np.float32)
        self.rows[rows] = np.copysign(np.sqrt(np.abs(cells)), cells) @ projection


class _Labeled:
    """The feature maps of the labeled images in several variants, and their masks.

    maps: one list of (n, C, h, w) float16 a variant. masks: (n, H, W) at half the resolution of the views, likewise.
    """

    def __init__(self, maps: list[Maps], masks: list[UInt8]) -> None:
        self.maps, self.masks = maps, masks

    @classmethod
    def of(
        cls, pool: PoolImages, encoder: MapEncoder, indices: IntArray, truth: UInt8, seed: int, progress: Progress
    ) -> "_Labeled":
        views, kept = _views(pool), PoolMaps(pool, encoder)
        boxes = views.letterboxes(indices)
        contents = [box.content for box in boxes]
        places = sum(int(np.prod(shape)) for shape in encoder.shapes)
        variants = int(np.clip(MOST_VARIED // (2 * places * len(indices)), 1, VARIANTS))
        generator = np.random.default_rng([seed, 0])
        maps: list[Maps] = []
        for variant in range(variants):
            parts = []
            for start in range(0, len(indices), SCORED):
                part = indices[start : start + SCORED]
                if not variant:
                    whole = kept.of(part)
                else:
                    images = views.gather(part)
                    images = _mirrored(images, contents[start : start + SCORED]) if variant % 2 else images
                    whole = encoder.maps(recoloured(images, generator) if variant > 1 else images)
                parts.append(_cut(whole, contents)[0])
                progress((variant + start / len(indices)) / variants)
            maps.append([np.concatenate(level) for level in zip(*parts, strict=True)])
        width, height = (length * GRID // VIEW for length in _extent(encoder.shapes[-1][1], contents))
        mirrored = _mirrored(truth, [Letterbox(box.width, box.height, GRID).content for box in boxes])
        masks = [(mirrored if variant % 2 else truth)[:, :height, :width] for variant in range(variants)]
        return cls(maps, masks)

    def minibatch(self, generator: np.random.Generator) -> tuple[Maps, UInt8]:
        """Draw images of one variant, all cut out at the same place, on the grid that all maps share."""
        variant = int(generator.integers(len(self.maps)))
        masks = self.masks[variant]
        rows = generator.permutation(len(masks))[:BATCH]
        levels = self.maps[variant]
        tall, wide = levels[-1].shape[2:]  # cells of the coarsest map, on whose edges the image is cut
        share = generator.uniform(0.5, 1.0)
        height, width = max(round(share * tall), 1), max(round(share * wide), 1)
        top, left = generator.integers(tall - height + 1), generator.integers(wide - width + 1)
        cut = []
        for level in levels:
            f = level.shape[2] // tall
            cut.append(level[rows, :, top * f : (top + height) * f, left * f : (left + width) * f])
        f = masks.shape[1] // tall
        return cut, masks[rows, top * f : (top + height) * f, left * f : (left + width) * f]


def recoloured(images: UInt8, generator: np.random.Generator) -> UInt8:
    """Return images (n, H, W, 3) with another brightness, contrast and tint each."""
    n = len(images)
    gain, contrast, tint = (
        generator.uniform(1 - most, 1 + most, (n, 1, 1, channels)).astype(np.float32)
        for most, channels in ((0.3, 1), (0.3, 1), (0.1, 3))
    )
    mean = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    changed: UInt8 = (((images - mean) * contrast + mean) * gain * tint).clip(0, 255).astype(np.uint8)
    return changed


def class_weights(masks: UInt8, outputs: int) -> FloatArray:
    """Return the weight of each class, (outputs,) float32: by the root of its rarity, with a mean of 1.

    A class that has no pixel counts 0.
    """
    counts = np.bincount(masks.ravel(), minlength=256)[:outputs]
    share = counts / max(counts.sum(), 1)
    weights = np.where(counts > 0, 1 / np.sqrt(np.maximum(share, RAREST)), 0.0)
    mean = weights[counts > 0].mean() if counts.any() else 1.0
    scaled: FloatArray = (weights / mean).astype(np.float32)
    return scaled


def _train(network: Decoder, data: _Labeled, seed: int, device: torch.device, progress: Progress) -> None:
    weights = torch.from_numpy(class_weights(data.masks[0], network.outputs)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
    generator = np.random.default_rng([seed, 1])
    network.train()
    for step in range(STEPS):
        maps, masks = data.minibatch(generator)
        truth = torch.from_numpy(masks).to(device).long()
        if not bool((truth != IGNORED).any()):
            continue
        logits = network([_tensor(part, device) for part in maps])
        enlarged = functional.interpolate(logits, size=truth.shape[-2:], mode="bilinear")
        loss = functional.cross_entropy(enlarged, truth, weights, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress(step / STEPS)
    network.eval()


def _tensor(maps: FloatArray, device: torch.device) -> Tensor:
    # Channels last are 1.6 times as fast on a processor.
    return torch.from_numpy(maps).to(device).float().contiguous(memory_format=torch.channels_last)


def _cut(whole: Maps, contents: Sequence[tuple[int, int]]) -> tuple[Maps, tuple[int, int]]:
    """Return feature maps of views without what lies outside of all contents, and the width and height that is left."""
    width, height = _extent(whole[-1].shape[-1], contents)
    cut = [level[:, :, : height * level.shape[2] // VIEW, : width * level.shape[3] // VIEW] for level in whole]
    return cut, (width, height)


def _extent(cells: int, contents: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the width and height that hold all contents, in cells of the coarsest map: padding costs time."""
    cell = VIEW // cells
    width, height = (max(lengths) for lengths in zip(*contents, strict=True))
    return -(-width // cell) * cell, -(-height // cell) * cell


def _mirrored(images: UInt8, contents: Sequence[tuple[int, int]]) -> UInt8:
    """Return images (n, H, W, ...) whose contents, (width, height) each, are mirrored where they are."""
    mirrored = images.copy()
    for own, (width, _) in zip(mirrored, contents, strict=True):
        own[:, :width] = own[:, :width][:, ::-1].copy()
    return mirrored


def _views(pool: PoolImages) -> ViewBank:
    if pool.views is None or pool.views.side != VIEW:
        raise BadInput(f"masks are learned from views of {VIEW} pixels, which are not there")
    return pool.views


def _encoder_of(pool: PoolImages) -> str:
    if pool.features is None:
        raise BadInput('masks are learned from the feature maps of an encoder: set "encoder"')
    return pool.features.encoder
