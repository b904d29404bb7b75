"""Train a pretext network on a bank, and extract the loss of every image of it."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.augment import NONE, Augmentation, CommonDraws, augment
from model.data.bank import ImageBank
from model.device import pick_device
from model.errors import BadInput, ModelError, UnknownName
from model.networks.backbones import build_backbone, network_of, resolve, seeded
from model.pretext.base import PretextTask
from model.pretext.budget import epochs_within, forget_budget
from model.pretext.registry import pretext_task
from model.progress import Progress, ignore_progress
from model.querying.outputs import FEATURES, FloatArray, as_features
from model.training.loop import Images, Plan, read_weights, train, write_weights
from model.training.registry import TINY

CHUNK = 64  # images of a minibatch of the extraction; fixed, so that a loss does not depend on what is extracted
EMBED_CHUNK = 256  # images of a minibatch of the feature extraction
QUALITY_SAMPLE = 256  # images on which the accuracy of the summary is measured

_FORMAT = 1


@dataclass(frozen=True)
class PretextRecipe:
    """A way to train a pretext network.

    tiny_epochs: epochs for images of up to TINY pixels, instead of those of the plan.
    """

    plan: Plan
    augmentation: Augmentation = NONE
    tiny_epochs: int | None = None


PRETEXT_RECIPES = {
    # PT4AL, section 5.1 and its code.
    "paper": PretextRecipe(Plan(15, 256, lr=0.1, nesterov=False, schedule="constant", keep="best", fill=False)),
    # Shifts keep the network from memorising a small pool: losses that are all near zero give no order.
    "auto": PretextRecipe(Plan(8, 64, lr=0.1, min_steps=16), Augmentation(shift=0.125), tiny_epochs=5),
}

# Tasks whose papers train them otherwise than rotation, where the recipe is ``paper``.
PAPERS = {
    # SimSiam, appendix D: 800 epochs of CIFAR-10.
    "simsiam": PretextRecipe(Plan(800, 512, lr=0.06, nesterov=False, schedule="cosine")),
    # The initial-pools paper, section 6.3: SCAN's settings for SimCLR; Adam for the autoencoder, best epoch kept.
    "simclr": PretextRecipe(Plan(500, 512, lr=0.4, nesterov=False, weight_decay=1e-4, schedule="cosine")),
    "vae": PretextRecipe(Plan(100, 200, lr=1e-3, schedule="constant", keep="best", fill=False, optimizer="adam")),
}


@dataclass(frozen=True)
class PretextSummary:
    """The result of a training.

    accuracy: on (a sample of) the pool; None for a task without right answers. curve: the mean loss of each epoch.
    """

    network: str
    epochs: int
    seconds: float
    accuracy: float | None
    curve: tuple[float, ...]


def train_pretext(
    task: str,
    bank: ImageBank,
    *,
    out: Path,
    checkpoint: Path,
    network: str = "auto",
    recipe: str = "auto",
    epochs: int | None = None,
    seconds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = ignore_progress,
) -> PretextSummary:
    """Train ``task`` on all images of the bank and write its weights to ``out``, whole or not at all.

    checkpoint: file from which a killed training continues; removed at the end. With the ``paper`` recipe, network
    ``auto`` is ResNet-18. seconds: instead of epochs, about how long the training may take: some minibatches are timed,
    and it gets as many epochs as fit, one at least.
    """
    started = time.monotonic()
    method, torch_device = pretext_task(task), pick_device(device)
    if recipe not in PRETEXT_RECIPES:
        raise UnknownName("recipe", recipe, PRETEXT_RECIPES)
    method.check(bank)
    network = resolve(network_of(recipe, network))
    chosen = PAPERS.get(task, PRETEXT_RECIPES[recipe]) if recipe == "paper" else PRETEXT_RECIPES[recipe]
    fitted = _adapted(chosen, bank, epochs)
    module = _build(method, network, bank.side, seed).to(torch_device)
    images = Images(bank, np.arange(len(bank)), torch_device)
    objective = _PretextObjective(method, module, images, fitted.augmentation)
    identity = {"task": task, "network": network, "side": bank.side}
    if seconds is not None:
        timed = _PretextObjective(method, copy.deepcopy(module), images, fitted.augmentation)
        afforded = epochs_within(seconds, timed, len(bank), fitted.plan, identity, checkpoint)
        fitted = replace(fitted, plan=replace(fitted.plan, epochs=afforded))
    curve = train(
        module, objective, len(bank), fitted.plan,
        checkpoint=checkpoint, identity=identity, seed=seed, device=torch_device, progress=progress,
    )  # fmt: skip
    _, accuracy = objective.measure(QUALITY_SAMPLE, lambda: progress(1.0))
    took = time.monotonic() - started
    write_weights(out, {**identity, "format": _FORMAT, "seed": seed, "epochs": fitted.plan.epochs, "accuracy": accuracy,
                        "curve": curve, "seconds": round(took, 1), "backbone_prefix": method.backbone_prefix,
                        "module": _on_cpu(module)})  # fmt: skip
    checkpoint.unlink(missing_ok=True)
    forget_budget(checkpoint)
    return PretextSummary(network, fitted.plan.epochs, took, accuracy, tuple(curve))


@torch.inference_mode()
def extract_losses(
    bank: ImageBank,
    weights: Path,
    *,
    start: int = 0,
    stop: int | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> npt.NDArray[np.float32]:
    """Return the pretext loss of images ``start`` to ``stop`` of the bank, (stop - start,) float32 (PT4AL, Eq. 1).

    Images are processed in fixed groups by pool index, padded to the same size, so that a loss does not depend on what
    else is extracted. Random numbers, such as those of distorted views, are drawn once for all images: equal images
    have equal losses, and the draw does not order the pool (with a draw for each image, the losses of two copies of an
    image correlated by only 0.6 for simsiam and 0.4 for barlow_twins).
    """
    stop = len(bank) if stop is None else stop
    if not 0 <= start <= stop <= len(bank):
        raise BadInput(f"images {start} to {stop} are not in a bank of {len(bank)}")
    torch_device = pick_device(device)
    task, module = load_pretext(weights, bank.side, torch_device)
    first = start - start % CHUNK
    images = Images(bank, np.arange(first, min(_up(stop), len(bank))), torch_device)
    losses = np.empty(_up(stop) - first, np.float32)
    for offset in range(0, len(losses), CHUNK):
        progress(offset / len(losses))
        group = images.take(torch.arange(offset, min(offset + CHUNK, len(images))))
        padded = functional.pad(group, (0, 0, 0, 0, 0, 0, 0, CHUNK - len(group)))
        padded = padded.contiguous(memory_format=torch.channels_last)
        draws = CommonDraws().manual_seed(seed)
        losses[offset : offset + CHUNK] = task.loss(module, padded, draws).float().cpu().numpy()
    progress(1.0)
    wanted = losses[start - first : stop - first]
    if not np.isfinite(wanted).all():
        bad = int((~np.isfinite(wanted)).sum())
        raise ModelError(f"the pretext loss of {bad} of {len(wanted)} images is not a finite number: it has diverged")
    return wanted


@torch.inference_mode()
def extract_embeddings(
    bank: ImageBank,
    weights: Path,
    *,
    start: int = 0,
    device: str = "auto",
    progress: Progress = ignore_progress,
) -> FloatArray:
    """Return the features of the pretext backbone for the images from ``start`` on, (N - start, D) of type FEATURES."""
    if not 0 <= start <= len(bank):
        raise BadInput(f"image {start} is not in a bank of {len(bank)}")
    torch_device = pick_device(device)
    task, module = load_pretext(weights, bank.side, torch_device)
    images = Images(bank, np.arange(start, len(bank)), torch_device)
    features: FloatArray = np.empty((0, 0), FEATURES)
    # At least one group, so that the width D is known even without images.
    for offset in range(0, max(len(images), 1), EMBED_CHUNK):
        progress(offset / max(len(images), 1))
        part = slice(offset, min(offset + EMBED_CHUNK, len(images)))
        embedded = task.embed(module, images.take(torch.arange(part.start, part.stop))).float().cpu().numpy()
        if offset == 0:
            features = np.empty((len(images), embedded.shape[1]), FEATURES)
        features[part] = as_features(embedded)
    progress(1.0)
    return features


def load_pretext(weights: Path, side: int, device: torch.device) -> tuple[PretextTask, nn.Module]:
    """Return the task and its trained module in eval mode; raise BadInput for weights of another image side."""
    content = read_pretext(weights, side)
    task = pretext_task(content["task"])
    module = _build(task, content["network"], side, seed=0)
    module.load_state_dict(content["module"])
    return task, module.to(device).eval()


def read_pretext(weights: Path, side: int) -> dict[str, Any]:
    """Return the content of a weights file.

    task, network, side, seed, epochs, accuracy, backbone_prefix, module; curve and seconds of the training but for
    weights of an earlier release.
    """
    content = read_weights(weights)
    if content is None or content.get("format") != _FORMAT or "task" not in content:
        raise ModelError(f"{weights} holds no pretext weights, or they are damaged")
    if content["side"] != side:
        raise BadInput(f"the pretext weights are for images of {content['side']} pixels, the bank has {side}")
    return content


class _PretextObjective:
    """The mean loss of a task over a minibatch."""

    def __init__(self, task: PretextTask, module: nn.Module, images: Images, augmentation: Augmentation) -> None:
        self._task, self._module, self._images, self._augmentation = task, module, images, augmentation

    def loss(self, positions: Tensor, generator: torch.Generator, done: float) -> Tensor:
        images = augment(self._images.take(positions), self._augmentation, generator)
        return self._task.loss(self._module, images, generator).mean()

    def quality(self, beat: Callable[[], None]) -> float:
        """Return the accuracy on the whole pool (PT4AL), or minus the loss for a task without accuracy."""
        loss, accuracy = self.measure(len(self._images), beat)
        return -loss if accuracy is None else accuracy

    @torch.inference_mode()
    def measure(self, sample: int, beat: Callable[[], None]) -> tuple[float, float | None]:
        """Return mean loss and accuracy over a sample of the pool at even intervals."""
        n = min(sample, len(self._images))
        positions = torch.linspace(0, len(self._images) - 1, n).long()
        losses, hits = [], []
        for number, part in enumerate(torch.split(positions, CHUNK)):
            beat()
            images = self._images.take(part)
            losses.append(self._task.loss(self._module, images, torch.Generator().manual_seed(number)))
            share = self._task.accuracy(self._module, images, torch.Generator().manual_seed(number))
            hits += [] if share is None else [share]
        return float(torch.cat(losses).mean()), float(torch.cat(hits).mean()) if hits else None


def _adapted(recipe: PretextRecipe, bank: ImageBank, epochs: int | None) -> PretextRecipe:
    if epochs is None:
        epochs = recipe.tiny_epochs if recipe.tiny_epochs and bank.side <= TINY else recipe.plan.epochs
    if epochs < 1:
        raise BadInput(f"a training needs at least 1 epoch, found {epochs}")
    batch_size = min(recipe.plan.batch_size, max(len(bank), 8))
    return replace(recipe, plan=replace(recipe.plan, epochs=epochs, batch_size=batch_size))


def _build(task: PretextTask, network: str, side: int, seed: int) -> nn.Module:
    backbone = build_backbone(network, side, seed)
    return seeded(lambda: task.build(backbone), seed).to(memory_format=torch.channels_last)


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu() for key, value in module.state_dict().items()}


def _up(index: int) -> int:
    """Return ``index`` rounded up to a multiple of CHUNK."""
    return -(-index // CHUNK) * CHUNK
