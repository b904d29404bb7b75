"""Where the weights of a main model come from: drawn at random, the pretext network's, or ImageNet's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.errors import UnknownName
from model.networks.backbones import build_backbone, load_imagenet, resolve, seeded
from model.networks.main import MainNetwork, Parts
from model.networks.registry import INITS
from model.pretext.run import read_pretext
from model.problems.base import VectorProblem


@dataclass(frozen=True)
class Start:
    """Where the weights of a fit come from."""

    network: str
    init: str
    pretext: dict[str, Any] | None

    def build(self, side: int, problem: VectorProblem, classes: int, seed: int, parts: Parts) -> MainNetwork:
        """Return a network for images of ``side`` pixels with the problem's head; the same for the same seed."""
        backbone = build_backbone(self.network, side, seed)
        if self.init == "pretrained":
            load_imagenet(backbone)
        if self.pretext is not None:
            prefix = self.pretext["backbone_prefix"]
            state = self.pretext["module"].items()
            backbone.load_state_dict(
                {key.removeprefix(prefix): value for key, value in state if key.startswith(prefix)}
            )
        module = seeded(lambda: MainNetwork(backbone, problem.head(backbone.dim, classes), parts), seed)
        return module.to(memory_format=torch.channels_last)


def choose_start(init: str, network: str, weights: Path | None, side: int, device: torch.device) -> Start:
    """Settle network and initial weights; pretext weights that do not fit are not used (see LearnerSummary.init)."""
    if init not in INITS:
        raise UnknownName("init", init, INITS)
    if init == "pretrained":
        return Start("resnet18" if network == "auto" else resolve(network, device), init, None)
    if init == "pretext" and weights is not None:
        content = read_pretext(weights, side)
        usable = content["backbone_prefix"] is not None and network in ("auto", content["network"])
        if usable:
            return Start(content["network"], init, content)
    return Start(resolve(network, device), "scratch", None)
