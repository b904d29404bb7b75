"""Colorization as a pretext task on the frozen encoder: a linear head tells the colours of a grey image.

Zhang, Isola and Efros (2016) train a network for it, as PT4AL does for segmentation (section 6.2). Here the encoder is
given the grey image, and its maps say the colour of each place; bins, soft targets and weights are the paper's.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.encoders.maps import MapEncoder
from model.pretext.colorization import rebalanced, soft_bins
from model.pretext.colour_space import ab_bins, rgb_to_lab
from model.pretext.halves import FORMAT, by_the_unseen, draw_sample, read_heads
from model.progress import Progress, ignore_progress
from model.querying.outputs import FloatArray, IntArray, as_features
from model.training.loop import write_weights

PLACES = 16  # of an image that they are fitted to, drawn; all of them give the loss
CHUNK = 16  # images that are embedded between two looks at the clock
DECAY = 6.0  # of the squared weights, over the number of images: with few, the head learns these by heart
ITERATIONS = 60  # of L-BFGS


def fit_colours(
    bank: ImageBank,
    encoder: MapEncoder,
    *,
    out: Path,
    work: Path,
    seed: int = 0,
    expired: Callable[[], bool] = lambda: False,
    progress: Progress = ignore_progress,
) -> bool:
    """Fit the heads to (a sample of) the bank and write them to ``out``; tell whether that is done.

    Two heads are fitted to one half of the sample each, so that every image gets its loss from a head that has not seen
    it. work: folder where a stopped fit keeps its features; removed by the caller. expired: asked now and then; where
    it is True, the next call goes on from there.
    """
    sample = draw_sample(len(bank), seed)
    width, side = sum(shape[0] for shape in encoder.shapes), encoder.shapes[0][1]
    drawn = np.random.default_rng([seed, 1]).permuted(np.tile(np.arange(side**2), (len(sample), 1)), axis=1)[:, :PLACES]
    kept = FeatureBank.create(work, encoder.name, encoder.side, PLACES * width, PLACES * width)
    missing = np.flatnonzero(~kept.knows(np.arange(len(sample))))
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        found = _features(bank, encoder, sample[part])
        rows = np.stack([own[places] for own, places in zip(found, drawn[part], strict=True)])
        kept.write(part, as_features(rows.reshape(len(part), -1)))
        progress((len(sample) - len(missing) + start + len(part)) / len(sample))
        if expired() and start + CHUNK < len(missing):
            return False
    x = kept.gather(np.arange(len(sample))).astype(np.float32).reshape(len(sample), PLACES, width)
    mean, scale = x.mean(axis=(0, 1)), x.std(axis=(0, 1)) + 1e-6
    x = (x - mean) / scale
    truth = torch.cat([_colours(bank, sample[start : start + CHUNK], side) for start in range(0, len(sample), CHUNK)])
    truth = torch.take_along_dim(truth, torch.from_numpy(drawn)[:, :, None], dim=1)
    frequency = truth.mean(dim=(0, 1))
    fitted = [_head(torch.from_numpy(x[half::2]), truth[half::2], rebalanced(frequency)) for half in (0, 1)]
    write_weights(out, {
        "format": FORMAT, "task": "colorization", "encoder": encoder.name, "side": encoder.side,
        "mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale), "frequency": frequency,
        "sample": torch.from_numpy(sample), "weights": [weight for weight, _ in fitted],
        "biases": [bias for _, bias in fitted],
    })  # fmt: skip
    return True


@torch.inference_mode()
def colour_losses(bank: ImageBank, encoder: MapEncoder, weights: Path, indices: IntArray) -> npt.NDArray[np.float32]:
    """Return the loss (n,) of these images, the mean over their places, by a head that has not seen them.

    An image that neither head has seen gets the mean of the two.
    Raises ModelError where ``weights`` are damaged, or of another encoder.
    """
    content = read_heads(weights, encoder.name)
    mean, scale = content["mean"].numpy(), content["scale"].numpy()
    by_bin = rebalanced(content["frequency"])
    losses = np.empty((2, len(indices)), np.float32)
    for start in range(0, len(indices), CHUNK):
        part = indices[start : start + CHUNK]
        x = torch.from_numpy((_features(bank, encoder, part) - mean) / scale)
        truth = _colours(bank, part, encoder.shapes[0][1])
        for number, (weight, bias) in enumerate(zip(content["weights"], content["biases"], strict=True)):
            own = _loss(x @ weight + bias, truth, by_bin).mean(dim=1)
            losses[number, start : start + len(part)] = own.numpy()
    return by_the_unseen(losses, content["sample"], indices)


def _head(x: Tensor, truth: Tensor, by_bin: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (D, Q) and biases (Q,) of a head, from features (n, PLACES, D) and soft bins (n, PLACES, Q)."""
    weight = torch.zeros(x.shape[-1], truth.shape[-1], requires_grad=True)
    bias = truth.mean(dim=(0, 1)).clamp_min(1e-6).log().requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(x @ weight + bias, truth, by_bin).mean() + DECAY / len(x) * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _loss(logits: Tensor, truth: Tensor, by_bin: Tensor) -> Tensor:
    """Return the rebalanced cross-entropy of each place, (n, P, Q) -> (n, P): Zhang et al., Eq. 2."""
    entropy = -(truth * functional.log_softmax(logits, dim=-1)).sum(dim=-1)
    return by_bin[truth.argmax(dim=-1)] * entropy


def _features(bank: ImageBank, encoder: MapEncoder, indices: IntArray) -> FloatArray:
    """Return what the encoder's maps say of each place of these images without colour, (n, side * side, D) float32."""
    size = encoder.side, encoder.side
    grey = np.stack([
        np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.BICUBIC))
        for image in bank.gather(indices)
    ])  # fmt: skip
    maps = [torch.from_numpy(level).float() for level in encoder.maps(np.repeat(grey[..., None], 3, axis=3))]
    finest = maps[0].shape[-2:]
    levels = [functional.interpolate(level, size=finest, mode="bilinear") for level in maps]
    joined = torch.cat([level.sign() * level.abs().sqrt() for level in levels], dim=1)
    features: FloatArray = joined.flatten(2).transpose(1, 2).numpy()
    return features


def _colours(bank: ImageBank, indices: IntArray, side: int) -> Tensor:
    """Return the soft bins of the mean colour of each place of these images, (n, side * side, Q)."""
    images = torch.from_numpy(bank.gather(indices)).permute(0, 3, 1, 2).float() / 255
    ab = functional.adaptive_avg_pool2d(rgb_to_lab(images)[:, 1:], side)
    return soft_bins(ab, torch.from_numpy(ab_bins())).flatten(2).transpose(1, 2)
