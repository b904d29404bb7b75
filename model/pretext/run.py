"""Train a pretext network on a bank, and extract the loss of every image of it."""

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
from model.pretext.registry import pretext_task
from model.querying.outputs import FEATURES, FloatArray, as_features
from model.training.loop import Images, Plan, Progress, ignore_progress, read_weights, train, write_weights

CHUNK = 64  # images of an extraction's minibatch; the same whatever is extracted, so that a loss never depends on it
EMBED_CHUNK = 256  # images of a minibatch whose features are extracted
QUALITY_SAMPLE = 256  # images that the summary's accuracy is measured on

TINY = 16  # pixels

_FORMAT = 1


@dataclass(frozen=True)
class PretextRecipe:
    """A way to train a pretext network.

    tiny_epochs: instead of the plan's for pictures up to TINY, which are soon learned.
    """

    plan: Plan
    augmentation: Augmentation = NONE
    tiny_epochs: int | None = None


PRETEXT_RECIPES = {
    # PT4AL, section 5.1 and its code.
    "paper": PretextRecipe(Plan(15, 256, lr=0.1, nesterov=False, schedule="constant", keep="best", fill=False)),
    # Shifts keep a small pool from being learned by heart: a loss near zero everywhere orders nothing.
    "auto": PretextRecipe(Plan(8, 64, lr=0.1, min_steps=16), Augmentation(shift=0.125), tiny_epochs=5),
}


@dataclass(frozen=True)
class PretextSummary:
    """What came out of a training; accuracy is that on (a sample of) the pool, None where the task has none."""

    network: str
    epochs: int
    seconds: float
    accuracy: float | None


def train_pretext(
    task: str,
    bank: ImageBank,
    *,
    out: Path,
    checkpoint: Path,
    network: str = "auto",
    recipe: str = "auto",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = ignore_progress,
) -> PretextSummary:
    """Train ``task`` on all images of the bank and write its weights to ``out``, whole or not at all.

    checkpoint: where a killed training goes on from; removed at the end. The ``paper`` recipe means ResNet-18 where
    the network is left open.
    """
    started = time.monotonic()
    the_task, where = pretext_task(task), pick_device(device)
    if recipe not in PRETEXT_RECIPES:
        raise UnknownName("recipe", recipe, PRETEXT_RECIPES)
    the_task.check(bank)
    network = resolve(network_of(recipe, network), where)
    how = _adapted(PRETEXT_RECIPES[recipe], bank, epochs)
    module = _build(the_task, network, bank.side, seed).to(where)
    objective = _PretextObjective(the_task, module, Images(bank, np.arange(len(bank)), where), how.augmentation)
    about = {"task": task, "network": network, "side": bank.side}
    train(
        module, objective, len(bank), how.plan,
        checkpoint=checkpoint, identity=about, seed=seed, device=where, progress=progress,
    )  # fmt: skip
    _, accuracy = objective.measure(QUALITY_SAMPLE, lambda: progress(1.0))
    write_weights(out, {**about, "format": _FORMAT, "seed": seed, "epochs": how.plan.epochs, "accuracy": accuracy,
                        "backbone_prefix": the_task.backbone_prefix, "module": _on_cpu(module)})  # fmt: skip
    checkpoint.unlink(missing_ok=True)
    return PretextSummary(network, how.plan.epochs, time.monotonic() - started, accuracy)


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

    Images are worked on in fixed groups by pool_index, padded to the same size: a loss is the same whatever else is
    extracted with it. What a task draws at random, such as distorted views, is drawn once for all images: equal images
    have equal losses, and the luck of the draw does not order the pool (with draws of their own, the losses of two
    copies of an image correlated by 0.6 for simsiam, 0.4 for barlow_twins).
    """
    stop = len(bank) if stop is None else stop
    if not 0 <= start <= stop <= len(bank):
        raise BadInput(f"images {start} to {stop} are not in a bank of {len(bank)}")
    where = pick_device(device)
    task, module = load_pretext(weights, bank.side, where)
    first = start - start % CHUNK
    images = Images(bank, np.arange(first, min(_up(stop), len(bank))), where)
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
    """Return the features of the pretext backbone of the images from ``start`` on, (N - start, D) in FEATURES."""
    if not 0 <= start <= len(bank):
        raise BadInput(f"image {start} is not in a bank of {len(bank)}")
    where = pick_device(device)
    task, module = load_pretext(weights, bank.side, where)
    images = Images(bank, np.arange(start, len(bank)), where)
    features: FloatArray = np.empty((0, 0), FEATURES)
    # At least one group, so that the width is known where there is no image either.
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
    """Return the task and its trained module in eval mode; raise where the weights are not for images of ``side``."""
    content = read_pretext(weights, side)
    task = pretext_task(content["task"])
    module = _build(task, content["network"], side, seed=0)
    module.load_state_dict(content["module"])
    return task, module.to(device).eval()


def read_pretext(weights: Path, side: int) -> dict[str, Any]:
    """Return the content of a weights file: task, network, side, seed, epochs, accuracy, backbone_prefix, module."""
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

    def loss(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        images = augment(self._images.take(positions), self._augmentation, generator)
        return self._task.loss(self._module, images, generator).mean()

    def quality(self, beat: Callable[[], None]) -> float:
        """Rate by accuracy on the whole pool (the paper), or by loss where the task has no accuracy."""
        loss, accuracy = self.measure(len(self._images), beat)
        return -loss if accuracy is None else accuracy

    @torch.inference_mode()
    def measure(self, sample: int, beat: Callable[[], None]) -> tuple[float, float | None]:
        """Return mean loss and accuracy over an evenly spread sample of the pool."""
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
    """Round up to a whole group."""
    return -(-index // CHUNK) * CHUNK
