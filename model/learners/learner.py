"""A trained main model, and what it says of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.data.bank import ImageBank
from model.device import pick_device
from model.errors import BadInput, ModelError
from model.learners.base import NO_NEEDS, PoolImages, evaluate
from model.learners.graph import graph_features
from model.learners.vaal import labeled_probability
from model.networks.backbones import build_backbone
from model.networks.main import MainNetwork, Parts
from model.problems import problem
from model.problems.base import Decoding, Target, VectorProblem, as_vector
from model.progress import Progress, ignore_progress
from model.querying.outputs import FEATURES, OUTPUTS, FloatArray, IntArray, Outputs, as_features, pool_axis
from model.training.loop import Images, read_weights

CHUNK = 256  # images of a scoring minibatch
PASSES = 20  # with dropout
QUARTERS = 4  # that an image may be turned by
FORMAT = 1  # of the file that ``fit`` writes


class Learner:
    """A trained main model, or an ensemble of them. Scores are computed in fp32, the same on every call.

    problem: what it predicts. classes: the number of them. side: of the images, in pixels. decoding: what
    ``Problem.tune`` has chosen for this model.
    """

    def __init__(
        self,
        members: Sequence[MainNetwork],
        kind: VectorProblem,
        classes: int,
        side: int,
        device: torch.device,
        *,
        decoding: Decoding | None = None,
        labeled: IntArray | None = None,
        seed: int = 0,
    ) -> None:
        """Use ``load``. labeled: pool indices that the model was trained on."""
        self._members, self._device = [member.eval() for member in members], device
        self._module, self.problem, self.classes, self.side = self._members[0], kind, classes, side
        self.decoding: Decoding = decoding or {}
        self._labeled, self._seed = labeled, seed

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "Learner":
        """Load what ``fit`` wrote; raise ModelError where it is missing or damaged."""
        content = read_weights(path)
        if content is None or content.get("format") != FORMAT or "classes" not in content:
            raise ModelError(f"{path} holds no main model, or it is damaged")
        chosen, parts = pick_device(device), Parts.saved(content.get("parts", {}))
        kind = as_vector(problem(content.get("problem", "single_label")))
        members = []
        for state in [content["module"], *content.get("others", [])]:
            enlarged = content.get("enlarged", 0)
            backbone = build_backbone(content["network"], content["side"], seed=0, enlarged=enlarged)
            module = MainNetwork(backbone, kind.head(backbone.dim, content["classes"]), parts)
            module.load_state_dict(state)
            members.append(module.to(chosen, memory_format=torch.channels_last))  # type: ignore[call-overload]
        return cls(
            members,
            kind,
            content["classes"],
            content["side"],
            chosen,
            decoding=content.get("decoding"),
            labeled=content["labeled"].numpy() if "labeled" in content else None,
            seed=content["seed"],
        )

    @torch.inference_mode()
    def predict(
        self,
        bank: ImageBank,
        indices: IntArray | None = None,
        *,
        needs: frozenset[str] = NO_NEEDS,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return the problem's base outputs of these images or the whole bank, and what else of ``Outputs`` is needed.

        Some are of the whole bank only (``OutputSpec.whole_pool``). Raises BadInput for a need that the model was not
        fitted for.
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
        for name in self.problem.base_outputs:
            if not np.isfinite(arrays[name]).all():
                raise ModelError(f"the main model's outputs '{name}' are not finite numbers: it has diverged")
        for name in needs & _OF_THE_POOL.keys():
            compute, _ = _OF_THE_POOL[name]
            with torch.inference_mode(mode=False), torch.enable_grad():
                arrays[name] = compute(self, arrays)
        asked = {*self.problem.base_outputs, *needs, "embeddings"}  # what others were computed of goes
        return Outputs(
            **{name: np.moveaxis(array, 0, pool_axis(name)) for name, array in arrays.items() if name in asked}
        )

    def predict_pool(
        self,
        pool: PoolImages,
        indices: IntArray | None = None,
        *,
        needs: frozenset[str] = NO_NEEDS,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return ``predict`` of the pool's bank."""
        return self.predict(pool.bank, indices, needs=needs, progress=progress)

    @property
    def network(self) -> MainNetwork:
        """The network whose outputs ``predict`` gives."""
        return self._module

    def evaluate(self, bank: ImageBank, indices: IntArray, targets: Sequence[Target], classes: Sequence[str]) -> float:
        """Return the mean quality of the predictions for these images: the problem's metric."""
        return evaluate(self, PoolImages(bank), indices, targets, classes)

    def _wanted(self, needs: frozenset[str], *, whole: bool) -> frozenset[str]:
        """Return the outputs to compute; raise BadInput for those that this model has no part for."""
        provided = self._module.parts.provided
        available = {name for name in self.problem.outputs if name not in OUTPUTS}
        for spec in (OUTPUTS[name] for name in self.problem.outputs if name in OUTPUTS):
            served = (whole and self._labeled is not None) or not spec.whole_pool
            if served and (spec.requires is None or spec.requires in provided):
                available.add(spec.name)
        if needs - available:
            missing = ", ".join(sorted(needs - available))
            raise BadInput(f"the main model was not trained to give {missing}: fit it for that")
        return needs.union(*(inputs for name, (_, inputs) in _OF_THE_POOL.items() if name in needs))

    def _score(self, images: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Return the outputs of a minibatch, (B, ...) each."""
        embedded, losses = self._module.forward_all(images)
        batch = _Minibatch(images, embedded, losses, self.problem.outputs_of(self._module.head(embedded)))
        return {**batch.base, **{name: compute(self, batch) for name, compute in _COMPUTED.items() if name in wanted}}

    def _passes(self, batch: "_Minibatch") -> Tensor:
        # Of a minibatch at a time: the passes of a whole pool would be PASSES times its posteriors.
        passes = self._module.head(batch.embedded.unsqueeze(1) * self._masks())
        return self.problem.outputs_of(passes)["probs"]

    def _mutual_information(self, batch: "_Minibatch") -> Tensor:
        return mutual_information(self._passes(batch))

    def _dropout_entropy(self, batch: "_Minibatch") -> Tensor:
        return entropy_of_mean(self._passes(batch))

    def _ensemble_probs(self, batch: "_Minibatch") -> Tensor:
        others = [self.problem.outputs_of(member(batch.images))["probs"] for member in self._members[1:]]
        return torch.stack([batch.base["probs"], *others], dim=1)

    def _turned_embeddings(self, batch: "_Minibatch") -> Tensor:
        turned = [torch.rot90(batch.images, quarters, dims=(2, 3)) for quarters in range(1, QUARTERS)]
        return torch.stack([batch.embedded, *(self._module.backbone(images) for images in turned)], dim=1)

    def _masks(self) -> Tensor:
        """Return what dropout leaves of the features, (PASSES, D): the same for every image, as in one network drawn.

        That makes a score independent of the minibatch that its image came in.
        """
        share = self._module.parts.dropout
        generator = torch.Generator().manual_seed(self._seed)
        kept = torch.rand(PASSES, self._module.backbone.dim, generator=generator) >= share
        return (kept / (1 - share)).to(self._device)

    def _known(self) -> dict[str, Any]:
        """Return what outputs of the whole pool depend on besides other outputs."""
        labeled = np.empty(0, np.int64) if self._labeled is None else self._labeled
        return {"labeled": labeled, "seed": self._seed, "device": self._device}

    def _task_aware_probability(self, arrays: Mapping[str, FloatArray]) -> FloatArray:
        ranks = 1 / (1 + np.exp(-np.asarray(arrays["predicted_losses"], np.float64)))
        return labeled_probability(arrays["embeddings"], ranks=ranks, **self._known())

    def _critic(self, batch: "_Minibatch") -> Tensor:
        if self._module.critic is None:
            raise BadInput("the main model has no critic")
        return cast(Tensor, self._module.critic(batch.embedded)).squeeze(1)


@dataclass(frozen=True)
class _Minibatch:
    """What a forward pass leaves. embedded: (B, D). losses: (B,) as a module predicts them. base: of the problem."""

    images: Tensor
    embedded: Tensor
    losses: Tensor | None
    base: dict[str, Tensor]

    def predicted_losses(self) -> Tensor:
        """Return the predicted losses (B,)."""
        if self.losses is None:
            raise BadInput("the main model has no module that predicts losses")
        return self.losses


# How the outputs beside the problem's own are computed of a minibatch; those of the whole pool are not among them.
_COMPUTED: dict[str, Callable[[Learner, _Minibatch], Tensor]] = {
    "embeddings": lambda learner, batch: batch.embedded,
    "logits": lambda learner, batch: cast(Tensor, learner.network.head(batch.embedded)),
    "mutual_information": Learner._mutual_information,
    "dropout_entropy": Learner._dropout_entropy,
    "dropout_probs": Learner._passes,
    "critic": Learner._critic,
    "ensemble_probs": Learner._ensemble_probs,
    "turned_embeddings": Learner._turned_embeddings,
    "predicted_losses": lambda learner, batch: batch.predicted_losses(),
    "detached_losses": lambda learner, batch: batch.predicted_losses(),
}


# How those of the whole pool are computed, and of which others.
_OF_THE_POOL: dict[str, tuple[Callable[[Learner, Mapping[str, FloatArray]], FloatArray], frozenset[str]]] = {
    "labeled_probability": (
        lambda learner, arrays: labeled_probability(arrays["embeddings"], **learner._known()),
        frozenset({"embeddings"}),
    ),
    "task_aware_probability": (Learner._task_aware_probability, frozenset({"embeddings", "predicted_losses"})),
    "graph_features": (
        lambda learner, arrays: graph_features(arrays["embeddings"], **learner._known()),
        frozenset({"embeddings"}),
    ),
}


def mutual_information(passes: Tensor) -> Tensor:
    """Return the entropy of the mean minus the mean of the entropies, in nats: (B, T, C) posteriors -> (B,) float64.

    A difference of numbers that are nearly the same, hence not in single precision, nor on a device that has no other.
    """
    passes = _double(passes)
    information: Tensor = entropy_of_mean(passes) - torch.special.entr(passes).sum(dim=2).mean(dim=1)
    return information


def entropy_of_mean(passes: Tensor) -> Tensor:
    """Return the entropy of the mean posterior, in nats: (B, T, C) -> (B,) float64."""
    nats: Tensor = torch.special.entr(_double(passes).mean(dim=1)).sum(dim=1)
    return nats


def _double(tensor: Tensor) -> Tensor:
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _write(arrays: dict[str, FloatArray], name: str, values: npt.NDArray[np.float32], part: slice, images: int) -> None:
    """Put the values of a minibatch into the array of that name, made at the first one."""
    dtype = OUTPUTS[name].dtype
    if name not in arrays:
        arrays[name] = np.empty((images, *values.shape[1:]), dtype)
    arrays[name][part] = as_features(values) if dtype == FEATURES else values
