"""The last block of the encoder, trained on the labels; what it says is averaged with what linear heads say.

The block is given what the rest of the network makes of an image (its *activations*), which is kept on the disk: a
training takes seconds. It starts from the encoder's weights, and its head from those of the linear head.
"""

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.data.features import FeatureBank
from model.device import pick_device
from model.encoders.encoder import bare_top, open_top
from model.encoders.network import Top
from model.encoders.registry import encoder_info
from model.errors import BadInput, ModelError
from model.learners.base import Fitted, PoolImages, check_known, checked_labels
from model.learners.folds import FOLDS, deal, digest, forget_folds, share_of
from model.learners.folds import out_of_fold as out_of_fold_arrays
from model.learners.linear import (
    NO_TRIAL,
    C,
    Head,
    LinearModel,
    fit_heads,
    kinds,
    mean_raw,
    outputs_of,
    saved_heads,
    trial_of,
)  # fmt: skip
from model.learners.linear_head import LinearHead
from model.learners.registry import FINETUNE
from model.learners.scaling import Scaling
from model.learners.settings import FitSettings
from model.problems import Problem
from model.problems.base import Encoded, VectorProblem, as_vector
from model.progress import Progress, ignore_progress
from model.querying.outputs import BoolArray, FloatArray, IntArray, Outputs
from model.training.loop import Plan, read_weights, train, write_weights

FORMAT = 1  # of the file that ``fit`` writes
HEADS = "both"  # the linear heads beside the block, a key of ``kinds``
EPOCHS = 232.0  # for one label: they fall with the root of their number, to FEWEST_EPOCHS
FEWEST_EPOCHS = 5
MINIBATCH, LEARNING_RATE, CLIP = 16, 0.1, 1.0
LABEL_SMOOTHING = 0.05
CHECKPOINT_S = 5.0  # seconds of work that a kill may cost
FOLD_STRIDE = 104_729  # between the seeds of the trainings of the folds
MAPS = 128  # images whose maps are in memory at once
ROOT_FLOOR = 1e-5  # under the root of a feature, whose slope at 0 is infinite


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
    """Train the last block, as a learner of the registry does; models of parts of the labels give the temperature.

    Raises BadInput for labels of images without activations, or an encoder whose last block cannot be separated.
    """
    started, checkpoint = time.monotonic(), _renamed(checkpoint)
    vector = as_vector(of)
    training = _Training.prepare(pool, indices, truth, vector, classes, settings)
    rows, folds = deal(training.truth, FOLDS, settings.seed)
    steps = len(folds) + 1
    trial = NO_TRIAL
    if folds:
        raw = training.out_of_fold(folds, checkpoint, lambda share: progress(share * len(folds) / steps))
        trial = trial_of(vector, raw[rows], training.truth[rows], classes)
    heads, tuned = training.run(
        np.arange(len(indices)), checkpoint, settings.seed, share_of(progress, len(folds), steps)
    )
    write_weights(out, {
        "format": FORMAT, "learner": FINETUNE, "problem": of.name, "classes": len(classes), "seed": settings.seed,
        "encoder": training.encoder, "side": training.side, "heads": saved_heads(heads, training.scalings),
        "tuned": tuned.state_dict(), "temperature": trial.temperature, "decoding": dict(trial.decoding),
    })  # fmt: skip
    checkpoint.unlink(missing_ok=True)
    forget_folds(checkpoint, FOLDS)
    progress(1.0)
    return Fitted(FINETUNE, {"epochs": epochs_of(len(indices))}, time.monotonic() - started)


def load(path: Path, device: str = "auto") -> "FinetunedModel":
    """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
    content = read_weights(path)
    if content is None or content.get("format") != FORMAT or content.get("learner") != FINETUNE:
        raise ModelError(f"{path} holds no fine-tuned model, or it is damaged")
    return FinetunedModel(content, pick_device(device))


def out_of_fold(
    pool: PoolImages,
    indices: IntArray,
    truth: Encoded,
    of: VectorProblem,
    classes: Sequence[str],
    settings: FitSettings,
    folds: Sequence[IntArray],
    *,
    checkpoint: Path,
    progress: Progress = ignore_progress,
) -> Outputs:
    """Return what models that were fitted to the other folds say of each labeled image, in their order.

    It is kept beside ``checkpoint`` for a ``fit`` to these labels, which removes it; else ``forget`` does.
    """
    training = _Training.prepare(pool, indices, truth, of, classes, settings)
    raw = training.out_of_fold(folds, _renamed(checkpoint), progress)
    return outputs_of(of, torch.from_numpy(raw / trial_of(of, raw, training.truth, classes).temperature))


def forget(checkpoint: Path) -> None:
    """Delete what ``out_of_fold`` has kept."""
    forget_folds(_renamed(checkpoint), FOLDS)


def _renamed(checkpoint: Path) -> Path:
    """Return a name that no other learner uses for its own checkpoint."""
    return checkpoint.with_name(f"{checkpoint.stem}-{FINETUNE}{checkpoint.suffix}")


def epochs_of(labels: int) -> int:
    """Return the number of passes over so many labels."""
    return max(FEWEST_EPOCHS, round(EPOCHS / sqrt(labels)))


class TunedHead(nn.Module):
    """The last block with a linear head: activations (B, C, H, W) -> raw outputs (B, outputs).

    Between them the features are scaled as those of the linear head are (``model.learners.scaling``).
    """

    def __init__(self, top: Top, mean: Tensor, head: nn.Module) -> None:
        """mean: of the roots of the features, (D,)."""
        super().__init__()
        self.top, self.head = top, head
        self.mean: Tensor
        self.register_buffer("mean", mean)

    def forward(self, activations: Tensor) -> Tensor:
        """Return the raw outputs."""
        return self.raw(self.features(activations))

    def raw(self, features: Tensor) -> Tensor:
        """Return the raw outputs of features, (B, D) -> (B, outputs)."""
        raw: Tensor = self.head(features)
        return raw

    def features(self, activations: Tensor) -> Tensor:
        """Return the scaled features, (B, D)."""
        features: Tensor = self.top(activations)
        rooted = features.sign() * ((features.abs() + ROOT_FLOOR).sqrt() - sqrt(ROOT_FLOOR))
        centred = rooted - self.mean
        scaled: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-8)
        return scaled


class FinetunedModel(LinearModel):
    """What ``fit`` wrote: linear heads on the frozen features, and a fine-tuned block with a head of its own."""

    chunk = 1024  # images that are scored at once

    def __init__(self, content: dict[str, Any], device: torch.device) -> None:
        """Use ``load``."""
        super().__init__(content)
        mean = content["tuned"]["mean"]
        top = bare_top(encoder_info(self.encoder), self.side)
        self.tuned = TunedHead(top, mean, self.problem.head(len(mean), self.classes))
        self.tuned.load_state_dict(content["tuned"])
        self.tuned = self.tuned.to(device).eval()
        self.shape = top.shape
        self._device = device

    def _knows(self, pool: PoolImages, indices: IntArray) -> BoolArray:
        known: BoolArray = super()._knows(pool, indices) & self._activations(pool).knows(indices)
        return known

    @torch.inference_mode()
    def _score(self, pool: PoolImages, indices: IntArray, needs: frozenset[str]) -> dict[str, Tensor]:
        activations = torch.from_numpy(self._activations(pool).gather(indices)).view(-1, *self.shape)
        parts = [self.tuned.features(part.to(self._device).float()) for part in torch.split(activations, MAPS)]
        features = torch.cat(parts) if parts else torch.empty(0, len(self.tuned.mean), device=self._device)
        frozen = self._raw(self._features(pool).gather(indices))
        raw = (frozen + self.tuned.raw(features).cpu()) / 2
        outputs = self.problem.outputs_of(raw / self.temperature)
        return outputs | ({"embeddings": features.cpu()} if "embeddings" in needs else {})

    def _activations(self, pool: PoolImages) -> FeatureBank:
        bank = pool.activations
        if bank is None or (bank.encoder, bank.side) != (self.encoder, self.side):
            raise BadInput(f"this model needs the activations of '{self.encoder}' at {self.side} pixels")
        return bank


@dataclass(frozen=True)
class _Training:
    """What the trainings of one fit share. x: scaled features of the labeled images by number of columns."""

    encoder: str
    side: int
    top: Top
    activations: Tensor
    x: dict[int, FloatArray]
    scalings: dict[int, Scaling]
    columns: tuple[int, ...]
    truth: Encoded
    of: VectorProblem
    classes: Sequence[str]
    seed: int
    device: torch.device
    labels: str

    @classmethod
    def prepare(
        cls,
        pool: PoolImages,
        indices: IntArray,
        truth: Encoded,
        of: VectorProblem,
        classes: Sequence[str],
        settings: FitSettings,
    ) -> "_Training":
        """Read what the trainings need; raise BadInput where it is not there."""
        indices, truth = checked_labels(indices, truth, of, classes)
        features, activations = pool.features, pool.activations
        if features is None or activations is None:
            raise BadInput(f"the learner '{FINETUNE}' needs the activations of an encoder: set \"encoder\"")
        check_known(features.knows(indices) & activations.knows(indices), "activations")
        top = open_top(encoder_info(features.encoder), features.side, pool.encoders)
        columns, raw = kinds(features)[HEADS], features.gather(indices)
        scalings = {count: Scaling.of(features, count) for count in columns}
        given = torch.from_numpy(activations.gather(indices)).view(-1, *top.shape)
        return cls(
            features.encoder, features.side, top, given,
            {count: scaling.apply(raw) for count, scaling in scalings.items()}, scalings, columns,
            truth, of, classes, settings.seed, pick_device(settings.device), digest(indices),
        )  # fmt: skip

    def run(self, rows: IntArray, checkpoint: Path, seed: int, progress: Progress) -> tuple[list[Head], TunedHead]:
        """Return linear heads and a fine-tuned block that are fitted to these rows of the labeled images."""
        heads = fit_heads(LinearHead(self.of, len(self.classes), C), self.columns, {
            count: x[rows] for count, x in self.x.items()
        }, self.truth[rows])  # fmt: skip
        columns, weight, bias = heads[0]
        head = self.of.head(columns, len(self.classes))
        head.load_state_dict({"weight": torch.from_numpy(weight.T.copy()), "bias": torch.from_numpy(bias)})
        tuned = TunedHead(deepcopy(self.top), torch.from_numpy(self.scalings[columns].mean), head).to(self.device)
        truth = torch.from_numpy(self.truth[rows]).to(self.device)
        objective = _Objective(tuned, self.of, self.activations[torch.from_numpy(rows)].to(self.device), truth)
        plan = Plan(
            epochs_of(len(rows)), MINIBATCH, LEARNING_RATE, clip=CLIP, checkpoint_s=CHECKPOINT_S
        )  # fmt: skip
        train(
            tuned, objective, len(rows), plan,
            checkpoint=checkpoint, identity=self._identity(rows), seed=seed, device=self.device, progress=progress,
        )  # fmt: skip
        return heads, tuned

    def out_of_fold(self, folds: Sequence[IntArray], checkpoint: Path, progress: Progress) -> FloatArray:
        """Return the raw outputs (n, outputs) of models that were fitted to the other folds."""

        def predict(fold: int, rows: IntArray, held: IntArray, path: Path, share: Progress) -> dict[str, FloatArray]:
            heads, tuned = self.run(rows, path, self.seed + FOLD_STRIDE * (fold + 1), share)
            with torch.inference_mode():
                given = torch.split(self.activations[torch.from_numpy(held)], MAPS)
                own = torch.cat([tuned(part.to(self.device).float()).cpu() for part in given])
            frozen = mean_raw({count: x[held] for count, x in self.x.items()}, heads)
            return {"raw": ((frozen + own) / 2).numpy()}

        given = len(self.truth), folds, predict, lambda rows: {**self._identity(rows), "seed": self.seed}
        return out_of_fold_arrays(*given, checkpoint=checkpoint, progress=progress)["raw"]

    def _identity(self, rows: IntArray) -> dict[str, Any]:
        return {
            "learner": FINETUNE, "encoder": self.encoder, "side": self.side, "problem": self.of.name,
            "classes": len(self.classes), "images": self.labels, "rows": digest(rows, self.truth[rows]),
        }  # fmt: skip


class _Objective:
    """The problem's loss of the labeled images, by their activations (n, C, H, W)."""

    def __init__(self, tuned: TunedHead, of: VectorProblem, activations: Tensor, truth: Tensor) -> None:
        self._tuned, self._of, self._activations, self._truth = tuned, of, activations, truth

    def loss(self, positions: Tensor, generator: torch.Generator, done: float) -> Tensor:
        """Return the mean loss of the images at ``positions``."""
        positions = positions.to(self._truth.device)
        raw = self._tuned(self._activations[positions].float()).float()
        return self._of.loss(raw, self._truth[positions], LABEL_SMOOTHING).mean()
