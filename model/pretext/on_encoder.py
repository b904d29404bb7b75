"""Rotation as a pretext task on the frozen encoder: a linear head tells which of four ways up an image is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.encoders.encoder import Encoder
from model.learners.linear_head import LinearHead
from model.learners.scaling import Scaling
from model.pretext.halves import FORMAT, by_the_unseen, draw_sample, read_heads
from model.problems import problem
from model.problems.base import as_vector
from model.progress import Progress, ignore_progress
from model.querying.outputs import FloatArray, IntArray
from model.training.loop import write_weights

WAYS_UP = 4
CHUNK = 16  # images that are embedded, four ways up, between two looks at the clock
C = 1.0  # weight of the loss: stronger regularization than that of labels, of which there are fewer
_SIDES = 64, 128  # pixels of the encoder's images: twice those of the bank, within these


def encoder_side(bank_side: int) -> int:
    """Return the side that the images of a bank are scaled to for this task, in pixels."""
    return min(max(2 * bank_side, _SIDES[0]), _SIDES[1]) // 32 * 32


def fit_rotation(
    bank: ImageBank,
    encoder: Encoder,
    *,
    out: Path,
    work: Path,
    seed: int = 0,
    expired: Callable[[], bool] = lambda: False,
    progress: Progress = ignore_progress,
) -> bool:
    """Fit the heads to (a sample of) the bank and write them to ``out``; tell whether that is done.

    Two heads are fitted to one half of the sample each, so that every image gets its loss from a head that has not seen
    it. encoder: for images of ``encoder_side``. work: folder where a stopped fit keeps its features; removed by the
    caller. expired: asked now and then; where it is True, the next call goes on from there.
    """
    sample = draw_sample(len(bank), seed)
    features = FeatureBank.create(work, encoder.name, encoder.side, encoder.dim, encoder.last)
    rows = np.arange(WAYS_UP * len(sample))
    missing = np.flatnonzero(~features.knows(rows[::WAYS_UP]))
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        _embed(bank, encoder, sample[part], features, part)
        progress((len(sample) - len(missing) + start + len(part)) / len(sample))
        if expired() and start + CHUNK < len(missing):
            return False
    scaling = Scaling.of(features, encoder.dim)
    x, truth = scaling.apply(features.gather(rows)), np.tile(np.arange(WAYS_UP), len(sample))
    half = np.repeat(np.arange(len(sample)) % 2, WAYS_UP)
    head = LinearHead(as_vector(problem("single_label")), WAYS_UP, C)
    fitted = [head.fit(x[half == number], truth[half == number]) for number in (0, 1)]
    write_weights(out, {
        "format": FORMAT, "task": "rotation", "encoder": encoder.name, "side": encoder.side,
        "mean": torch.from_numpy(scaling.mean), "sample": torch.from_numpy(sample),
        "weights": [torch.from_numpy(weight) for weight, _ in fitted],
        "biases": [torch.from_numpy(bias) for _, bias in fitted],
    })  # fmt: skip
    return True


def rotation_losses(
    bank: ImageBank, encoder: Encoder, weights: Path, indices: IntArray, *, work: Path
) -> npt.NDArray[np.float32]:
    """Return the loss (n,) of these images, the mean over their four ways up, by a head that has not seen them.

    An image that neither head has seen gets the mean of the two. work: the folder of ``fit_rotation``, whose features
    are not computed again while it is there.
    Raises ModelError where ``weights`` are damaged, or of another encoder.
    """
    content = read_heads(weights, encoder.name)
    heads = [(w.numpy(), b.numpy()) for w, b in zip(content["weights"], content["biases"], strict=True)]
    scaling = Scaling(encoder.dim, content["mean"].numpy())
    place = {int(index): number for number, index in enumerate(content["sample"].tolist())}
    losses = np.empty((len(heads), len(indices)), np.float32)
    for start in range(0, len(indices), CHUNK):
        part = indices[start : start + CHUNK]
        x = scaling.apply(_features(bank, encoder, part, place, work))
        for number, (weight, bias) in enumerate(heads):
            losses[number, start : start + len(part)] = _loss(x @ weight + bias)
    return by_the_unseen(losses, content["sample"], indices)


def _loss(raw: FloatArray) -> FloatArray:
    """Return the cross-entropy of each image, (WAYS_UP * n, WAYS_UP) -> (n,)."""
    log = raw - raw.max(axis=1, keepdims=True)
    log = log - np.log(np.exp(log).sum(axis=1, keepdims=True))
    right = np.tile(np.arange(WAYS_UP), len(raw) // WAYS_UP)
    own: FloatArray = -log[np.arange(len(raw)), right].reshape(-1, WAYS_UP).mean(axis=1)
    return own


def _features(bank: ImageBank, encoder: Encoder, indices: IntArray, place: dict[int, int], work: Path) -> FloatArray:
    """Return the features of all ways up of these images, (WAYS_UP * n, dim), those of the sample as they are kept."""
    kept = FeatureBank.open(work) if (work / "features.json").exists() else None
    rows: FloatArray = np.empty((WAYS_UP * len(indices), encoder.dim), np.float16)
    fresh = []
    for number, index in enumerate(indices):
        if kept is not None and int(index) in place:
            own = WAYS_UP * place[int(index)] + np.arange(WAYS_UP)
            rows[WAYS_UP * number : WAYS_UP * (number + 1)] = kept.gather(own)
        else:
            fresh.append(number)
    if fresh:
        embedded = encoder.embed(_ways_up(bank, indices[fresh], encoder.side))
        for position, number in enumerate(fresh):
            rows[WAYS_UP * number : WAYS_UP * (number + 1)] = embedded[WAYS_UP * position : WAYS_UP * (position + 1)]
    return rows


def _embed(bank: ImageBank, encoder: Encoder, indices: IntArray, features: FeatureBank, places: IntArray) -> None:
    rows = (WAYS_UP * places[:, None] + np.arange(WAYS_UP)).ravel()
    features.write(rows, encoder.embed(_ways_up(bank, indices, encoder.side)))


def _ways_up(bank: ImageBank, indices: IntArray, side: int) -> npt.NDArray[np.uint8]:
    """Return these images scaled and turned by 0, 90, 180 and 270 degrees, (WAYS_UP * n, side, side, 3)."""
    scaled = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in bank.gather(indices)]
    return np.stack([np.rot90(np.asarray(image), turn) for image in scaled for turn in range(WAYS_UP)])
