"""The main task: fit a classifier to the labels given so far, and say what it thinks of the pool."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.data.bank import ImageBank
from model.device import pick_device
from model.errors import BadInput, ModelError, UnknownName
from model.evaluation.metrics import accuracy
from model.learners.vaal import labeled_probability
from model.networks.backbones import build_backbone, network_of
from model.networks.initialization import choose_start
from model.networks.main import MainNetwork, Parts
from model.querying.outputs import FEATURES, FloatArray, IntArray, Outputs, as_features, pool_axis
from model.training.loop import Images, Progress, ignore_progress, read_weights, recalibrate, train, write_weights
from model.training.objectives import LabelObjective
from model.training.recipes import RECIPES, Recipe, adapted, sample
from model.training.registry import JOINTS

__all__ = ["RECIPES", "Learner", "LearnerSummary", "fit"]

CHUNK = 256  # images of a scoring minibatch
PASSES = 20  # with dropout
MEMBER_STRIDE = 7919  # between the seeds of an ensemble's members, so that they are no other run's

_FORMAT = 1
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LearnerSummary:
    """What came out of a fit; init is where the weights really came from."""

    network: str
    init: str
    epochs: int
    seconds: float
    train_accuracy: float
    mirrored: bool


def fit(
    bank: ImageBank,
    indices: IntArray,
    labels: IntArray,
    *,
    classes: int,
    out: Path,
    checkpoint: Path,
    network: str = "auto",
    init: str = "pretext",
    pretext_weights: Path | None = None,
    recipe: str = "auto",
    joint: str = "none",
    needs: frozenset[str] = _NONE,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = ignore_progress,
) -> LearnerSummary:
    """Train a classifier on the labeled images and write it to ``out``, whole or not at all.

    indices: (n,) pool indices of the labeled images. labels: (n,) their class ids, below ``classes``. checkpoint: where
    a killed fit goes on from; removed at the end. network: ``auto`` is that of the pretext weights where the fit starts
    from them. joint: ``barlow_twins`` trains on the whole pool besides (DALBT). needs: the outputs that will be asked
    of ``Learner.predict``, some of which have to be trained for.
    """
    started = time.monotonic()
    indices, labels = _checked(bank, indices, labels, classes)
    if joint not in JOINTS:
        raise UnknownName("joint training", joint, JOINTS)
    parts, where = Parts.of(needs, joint), pick_device(device)
    network = network_of(recipe, network)
    how = adapted(recipe, bank, indices, labels, epochs=epochs, joint=parts.twins, seed=seed)
    start = choose_start(init, network, pretext_weights, bank.side, where)
    about = {
        "network": start.network,
        "init": start.init,
        "side": bank.side,
        "classes": classes,
        "parts": asdict(parts),
    }
    identity = {**about, "labels": _digest(indices, labels), "recipe": asdict(how)}
    training = _Training(bank, indices, labels, how, identity, where)
    members = []
    for member in range(parts.members):
        own_seed = seed + MEMBER_STRIDE * member
        module = start.build(bank.side, classes, own_seed, parts).to(where)
        share = _share_of(progress, member, parts.members)
        training.run(module, _numbered(checkpoint, member), own_seed, share)
        members.append(module)
    states = [module.without_twins() for module in members]
    write_weights(out, {**about, "format": _FORMAT, "seed": seed, "module": states[0], "others": states[1:],
                        "labeled": torch.from_numpy(indices)})  # fmt: skip
    for member in range(parts.members):
        _numbered(checkpoint, member).unlink(missing_ok=True)
    reached = Learner(members, bank.side, where).evaluate(bank, indices, labels)
    return LearnerSummary(
        start.network, start.init, how.plan.epochs, time.monotonic() - started, reached, how.augmentation.flip
    )


@dataclass(frozen=True)
class _Training:
    """What the members of an ensemble share: images, labels, recipe."""

    bank: ImageBank
    indices: IntArray
    labels: IntArray
    recipe: Recipe
    identity: dict[str, Any]
    device: torch.device

    def run(self, module: MainNetwork, checkpoint: Path, seed: int, progress: Progress) -> None:
        """Train a network in place."""
        pool = Images(self.bank, np.arange(len(self.bank) if module.twins is not None else 0), self.device)
        objective = LabelObjective(
            module, Images(self.bank, self.indices, self.device), torch.from_numpy(self.labels).to(self.device), pool,
            self.recipe,
        )  # fmt: skip
        train(
            module, objective, len(self.indices), self.recipe.plan,
            checkpoint=checkpoint, identity={**self.identity, "start": _digest(*_as_arrays(module))},
            seed=seed, device=self.device, progress=progress,
        )  # fmt: skip
        if self.recipe.recalibrate:
            recalibrate(module, Images(self.bank, sample(self.bank, self.recipe.recalibrate, seed), self.device))


class Learner:
    """A trained main model, or an ensemble of them. Scores are computed in fp32, the same on every call."""

    def __init__(
        self,
        members: Sequence[MainNetwork],
        side: int,
        device: torch.device,
        *,
        labeled: IntArray | None = None,
        seed: int = 0,
    ) -> None:
        """Use ``load``. labeled: pool indices that the model was trained on."""
        self._members, self._device = [member.eval() for member in members], device
        self._module, self.side, self.classes = self._members[0], side, self._members[0].head.out_features
        self._labeled, self._seed = labeled, seed

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "Learner":
        """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
        content = read_weights(path)
        if content is None or content.get("format") != _FORMAT or "classes" not in content:
            raise ModelError(f"{path} holds no main model, or it is damaged")
        where, parts = pick_device(device), Parts(**{**content.get("parts", {}), "twins": False})
        members = []
        for state in [content["module"], *content.get("others", [])]:
            module = MainNetwork(build_backbone(content["network"], content["side"], seed=0), content["classes"], parts)
            module.load_state_dict(state)
            members.append(module.to(where, memory_format=torch.channels_last))  # type: ignore[call-overload]
        labeled = content["labeled"].numpy() if "labeled" in content else None
        return cls(members, content["side"], where, labeled=labeled, seed=content["seed"])

    @torch.inference_mode()
    def predict(
        self,
        bank: ImageBank,
        indices: IntArray | None = None,
        *,
        needs: frozenset[str] = _NONE,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return the posteriors of these images or the whole bank, and what else of ``Outputs`` is needed.

        ``labeled_probability`` is of the whole bank only. Raises BadInput for a need that the model was not fitted for.
        """
        if bank.side != self.side:
            raise BadInput(f"the main model is for images of {self.side} pixels, the bank has {bank.side}")
        wanted = self._wanted(needs, whole=indices is None)
        indices = np.arange(len(bank)) if indices is None else np.asarray(indices, np.int64)
        images = Images(bank, indices, self._device)
        arrays: dict[str, FloatArray] = {}
        # At least one minibatch, so that shapes are known where there is no image either.
        for offset in range(0, max(len(images), 1), CHUNK):
            progress(offset / max(len(images), 1))
            part = slice(offset, min(offset + CHUNK, len(images)))
            for name, values in self._score(images.take(torch.arange(part.start, part.stop)), wanted).items():
                _write(arrays, name, values.cpu().numpy(), part, len(images))
        progress(1.0)
        if not np.isfinite(arrays["probs"]).all():
            raise ModelError("the main model's posteriors are not finite numbers: it has diverged")
        if "labeled_probability" in needs:
            arrays["labeled_probability"] = self._labeled_probability(arrays["embeddings"])
        return Outputs(**{name: np.moveaxis(a, 0, pool_axis(name)) for name, a in arrays.items()})

    @property
    def network(self) -> MainNetwork:
        """The network whose posteriors ``predict`` gives."""
        return self._module

    def evaluate(self, bank: ImageBank, indices: IntArray, labels: IntArray) -> float:
        """Return the accuracy on these images."""
        probs = self.predict(bank, indices).probs
        reached = None if probs is None else accuracy(probs.argmax(axis=1), np.asarray(labels))
        if reached is None:
            raise BadInput("there are no images to measure the accuracy on")
        return reached

    def _wanted(self, needs: frozenset[str], *, whole: bool) -> frozenset[str]:
        """Return what the networks have to give; refuse what this model has no part for."""
        parts = self._module.parts
        there = {"probs", "embeddings", "labels", "pretext_embeddings"}
        there |= {"mutual_information"} if parts.dropout else set()
        there |= {"ensemble_probs"} if len(self._members) > 1 else set()
        there |= {"none": set(), "attached": {"predicted_losses"}, "detached": {"detached_losses"}}[parts.losses]
        there |= {"labeled_probability"} if whole and self._labeled is not None else set()
        if needs - there:
            raise BadInput(
                f"the main model was not trained to give {', '.join(sorted(needs - there))}: fit it for that"
            )
        return needs | {"embeddings"} if "labeled_probability" in needs else needs

    def _score(self, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Return the outputs of a minibatch, (B, ...) each."""
        module = self._module
        embedded, losses = module.forward_all(images)
        scores = {"probs": module.head(embedded).softmax(dim=1)}
        if "embeddings" in wanted:
            scores["embeddings"] = embedded
        if "mutual_information" in wanted:
            # Of a minibatch at a time: the passes of a whole pool would be PASSES times its posteriors.
            scores["mutual_information"] = mutual_information(
                module.head(embedded.unsqueeze(1) * self._masks()).softmax(dim=2)
            )
        if "ensemble_probs" in wanted:
            others = [member(images).softmax(dim=1) for member in self._members[1:]]
            scores["ensemble_probs"] = torch.stack([scores["probs"], *others], dim=1)
        for name in wanted & {"predicted_losses", "detached_losses"}:
            if losses is not None:
                scores[name] = losses
        return scores

    def _masks(self) -> Tensor:
        """Return what dropout leaves of the features, (PASSES, D): the same for every image, as in one network drawn.

        That makes a score independent of the minibatch that its image came in.
        """
        share = self._module.parts.dropout
        generator = torch.Generator().manual_seed(self._seed)
        kept = torch.rand(PASSES, self._module.backbone.dim, generator=generator) >= share
        return (kept / (1 - share)).to(self._device)

    def _labeled_probability(self, embeddings: FloatArray) -> FloatArray:
        labeled = np.empty(0, np.int64) if self._labeled is None else self._labeled
        with torch.inference_mode(mode=False), torch.enable_grad():
            return labeled_probability(embeddings, labeled, seed=self._seed, device=self._device)


def mutual_information(passes: Tensor) -> Tensor:
    """Return the entropy of the mean minus the mean of the entropies, in nats: (B, T, C) posteriors -> (B,) float64.

    A difference of numbers that are nearly the same, hence not in single precision, nor on a device that has no other.
    """
    passes = (passes.cpu() if passes.device.type == "mps" else passes).double()
    of_mean, of_each = torch.special.entr(passes.mean(dim=1)).sum(dim=1), torch.special.entr(passes).sum(dim=2)
    information: Tensor = of_mean - of_each.mean(dim=1)
    return information


def _write(arrays: dict[str, FloatArray], name: str, values: npt.NDArray[np.float32], part: slice, images: int) -> None:
    """Put the values of a minibatch into the array of that name, made at the first one."""
    if name not in arrays:
        kind = FEATURES if name == "embeddings" else np.float32
        arrays[name] = np.empty((images, *values.shape[1:]), kind)
    arrays[name][part] = as_features(values) if name == "embeddings" else values


def _checked(bank: ImageBank, indices: IntArray, labels: IntArray, classes: int) -> tuple[IntArray, IntArray]:
    indices, labels = np.asarray(indices, np.int64), np.asarray(labels, np.int64)
    if len(indices) != len(labels) or len(indices) == 0:
        raise BadInput(f"found {len(indices)} labeled images and {len(labels)} labels")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise BadInput(f"class ids {labels.min()} to {labels.max()} do not fit {classes} classes")
    if not 0 <= int(indices.min()) <= int(indices.max()) < len(bank):
        raise BadInput(f"pool indices {indices.min()} to {indices.max()} do not fit a bank of {len(bank)} images")
    return indices, labels


def _digest(*arrays: npt.NDArray[Any]) -> str:
    """Return what tells these arrays from others in a checkpoint."""
    known = hashlib.sha256()
    for array in arrays:
        known.update(array.tobytes())
    return known.hexdigest()


def _as_arrays(module: MainNetwork) -> list[npt.NDArray[Any]]:
    return [tensor.detach().cpu().numpy() for tensor in module.state_dict().values()]


def _numbered(checkpoint: Path, member: int) -> Path:
    """Return where a member of an ensemble keeps its checkpoint: the first where a single model does."""
    return checkpoint if member == 0 else checkpoint.with_name(f"{checkpoint.stem}-{member}{checkpoint.suffix}")


def _share_of(progress: Progress, member: int, members: int) -> Progress:
    """Return a callback for a member's progress that reports that of the whole ensemble."""
    return lambda share: progress((member + share) / members)
