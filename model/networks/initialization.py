"""Where the weights of a main model come from: drawn at random, of the pretext network, the last model, or ImageNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.errors import ModelError, UnknownName
from model.networks.backbones import IMAGENET_SIDE, build_backbone, load_imagenet, resolve, seeded
from model.networks.main import MainNetwork, Parts
from model.networks.registry import INITS
from model.pretext.run import read_pretext
from model.problems.base import VectorProblem
from model.training.loop import read_weights


@dataclass(frozen=True)
class Start:
    """Where the weights of a fit come from.

    pretext: a weights file's content. previous: the states of the members of the last round's model. enlarged: side to
    which the network brings smaller images.
    """

    network: str
    init: str
    pretext: dict[str, Any] | None = None
    previous: Sequence[dict[str, Tensor]] = ()
    enlarged: int = 0

    def build(
        self, side: int, problem: VectorProblem, classes: int, seed: int, parts: Parts, member: int | None = None
    ) -> MainNetwork:
        """Return a network for images of ``side`` pixels with the problem's head; the same for the same seed.

        member: of an ensemble, which goes on from that of the last round. None: of a cross-validation, which goes on
        from none, because those have learned the labels that are held out.
        """
        backbone = build_backbone(self.network, side, seed, enlarged=self.enlarged)
        if self.init == "pretrained":
            load_imagenet(backbone)
        if self.pretext is not None:
            backbone.load_state_dict(_part(self.pretext["module"], self.pretext["backbone_prefix"]))
        module = seeded(lambda: MainNetwork(backbone, problem.head(backbone.dim, classes), parts), seed)
        if member is not None and member < len(self.previous):
            _go_on(module, self.previous[member])
        return module.to(memory_format=torch.channels_last)


def choose_start(init: str, network: str, weights: Path | None, side: int, previous: Path | None = None) -> Start:
    """Settle network and initial weights; those that do not fit are not used (see LearnerSummary.init).

    weights: of the pretext network. previous: the last round's model.
    """
    if init not in INITS:
        raise UnknownName("init", init, INITS)
    if init == "pretrained":
        enlarged = IMAGENET_SIDE if side < IMAGENET_SIDE else 0
        return Start("resnet18" if network == "auto" else resolve(network), init, enlarged=enlarged)
    if init == "pretext" and weights is not None:
        content = read_pretext(weights, side)
        usable = content["backbone_prefix"] is not None and network in ("auto", content["network"])
        if usable:
            return Start(content["network"], init, content)
    if init == "previous" and previous is not None and previous.exists():
        known = read_weights(previous)
        if known is None:
            raise ModelError(f"{previous} holds no main model, or it is damaged")
        if (known.get("network"), known.get("side")) == (resolve(network), side):
            return Start(known["network"], init, previous=[known["module"], *known["others"]])
    return Start(resolve(network), "scratch")


def _go_on(module: MainNetwork, state: dict[str, Tensor]) -> None:
    """Load what fits of a model of the last round: all of it, or without the head where the classes are others."""
    own = module.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    module.load_state_dict({**own, **fitting})


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
