"""The network of the main task, with what some strategies put beside its head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from model.networks.backbones import Backbone
from model.networks.heads import projector
from model.querying.outputs import OUTPUTS, Part

DROPOUT = 0.5  # before the head, for passes with dropout (initial-pools paper, section 6.1)
LOSS_WIDTH = 128  # of the loss prediction module, per level (learning loss, section 3.3)
CRITIC_WIDTH = 50  # WAAL, the authors' code
PROJECTION_WIDTH = 256  # of the projections of joint training
MEMBERS = 3  # of an ensemble (initial-pools paper)


@dataclass(frozen=True)
class Parts:
    """What a fit has beside backbone and head, because a strategy or the project wants it.

    dropout: share of the features that training drops. losses: a module that predicts the loss, whose gradient reaches
    the backbone (``attached``) or not, or that learns only which of two losses is higher (``ranked``). projector: one
    for Barlow Twins. critic: one that tells unlabeled images. members: networks of an ensemble.
    """

    dropout: float = 0.0
    losses: Literal["none", "attached", "detached", "ranked"] = "none"
    projector: bool = False
    critic: bool = False
    members: int = 1

    @classmethod
    def of(cls, needs: frozenset[str], joint: str) -> "Parts":
        """Return the parts that outputs of these names require (``model.querying.outputs``), and joint training."""
        required = {OUTPUTS[name].requires for name in needs if name in OUTPUTS}
        kinds: tuple[Literal["attached", "detached", "ranked"], ...] = ("attached", "detached", "ranked")
        return cls(
            dropout=DROPOUT if "dropout" in required else 0.0,
            losses=next((kind for kind in kinds if f"{kind}_losses" in required), "none"),
            projector=joint != "none",
            critic="critic" in required,
            members=MEMBERS if "members" in required else 1,
        )

    @classmethod
    def saved(cls, values: Mapping[str, Any]) -> "Parts":
        """Return the parts of a saved model; its projector was not saved."""
        known = {field.name for field in fields(cls)} - {"projector"}
        return cls(**{name: value for name, value in values.items() if name in known})

    @property
    def provided(self) -> frozenset[Part]:
        """Return the parts that are there, as outputs require them."""
        presence: dict[Part, bool] = {
            "dropout": self.dropout > 0,
            "members": self.members > 1,
            "attached_losses": self.losses == "attached",
            "detached_losses": self.losses == "detached",
            "ranked_losses": self.losses == "ranked",
            "critic": self.critic,
        }
        return frozenset(part for part, present in presence.items() if present)


class MainNetwork(nn.Module):
    """A backbone with a problem's head, and the parts beside it; without parts its state is that of these two."""

    def __init__(self, backbone: Backbone, head: nn.Module, parts: Parts) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.parts = parts
        self.dropout = nn.Dropout(parts.dropout)
        self.losses = LossPrediction(backbone.level_widths) if parts.losses != "none" else None
        self.projector = _projector(backbone.dim) if parts.projector else None
        self.critic = _critic(backbone.dim) if parts.critic else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the head's raw outputs, (B, 3, H, W) -> (B, ...)."""
        return cast(Tensor, self.head(self.dropout(self.backbone(images))))

    def forward_all(self, images: Tensor, *, attached: bool = True) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings (B, D) and, where there is a module for them, the predicted losses (B,).

        attached: whether the gradient of these reaches the backbone, if the parts let it.
        """
        if self.losses is None:
            return self.backbone(images), None
        embedded, levels = self.backbone.with_levels(images)
        if self.parts.losses == "detached" or not attached:
            levels = [level.detach() for level in levels]
        return embedded, self.losses(levels)

    def state_without_projector(self) -> dict[str, Tensor]:
        """Return the state that predictions need."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("projector.")}


class LossPrediction(nn.Module):
    """From the features of every level of a backbone to the loss of the main task (learning loss, Fig. 2b)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Linear(width, LOSS_WIDTH) for width in widths)
        self.last = nn.Linear(LOSS_WIDTH * len(widths), 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the predicted losses, (B, width) per level -> (B,)."""
        parts = [layer(level).relu() for layer, level in zip(self.levels, levels, strict=True)]
        return cast(Tensor, self.last(torch.cat(parts, dim=1))).squeeze(1)


def _critic(width: int) -> nn.Module:
    """Build WAAL's critic, (B, width) -> (B, 1) in [0, 1]."""
    return nn.Sequential(
        nn.Linear(width, CRITIC_WIDTH), nn.ReLU(), nn.Dropout(0.5), nn.Linear(CRITIC_WIDTH, 1), nn.Sigmoid()
    )


def _projector(width: int) -> nn.Module:
    return nn.Sequential(
        projector(width, 2 * PROJECTION_WIDTH, 2 * PROJECTION_WIDTH, PROJECTION_WIDTH),
        nn.BatchNorm1d(PROJECTION_WIDTH, affine=False),
    )
