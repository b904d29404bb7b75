"""The network of the main task, with what some strategies put beside its head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from model.networks.backbones import Backbone, Network
from model.networks.heads import projector

DROPOUT = 0.5  # before the head, for BALD (initial-pools paper, section 5.2)
LOSS_WIDTH = 128  # of the loss prediction module, per level (learning loss, section 3.3)
TWIN_WIDTH = 256  # of the projections of joint training
MEMBERS = 3  # of an ensemble (initial-pools paper)


@dataclass(frozen=True)
class Parts:
    """What a fit has beside backbone and head, because a strategy or the project wants it.

    dropout: share of the features that training drops. losses: a module that predicts the loss, whose gradient reaches
    the backbone (``attached``) or not. twins: a projector for Barlow Twins. members: networks of an ensemble.
    """

    dropout: float = 0.0
    losses: Literal["none", "attached", "detached"] = "none"
    twins: bool = False
    members: int = 1

    @classmethod
    def of(cls, needs: frozenset[str], joint: str) -> "Parts":
        """Return the parts that serve these needs: none of them costs anyone else anything."""
        return cls(
            dropout=DROPOUT if "mutual_information" in needs else 0.0,
            losses="attached" if "predicted_losses" in needs else "detached" if "detached_losses" in needs else "none",
            twins=joint == "barlow_twins",
            members=MEMBERS if "ensemble_probs" in needs else 1,
        )


class MainNetwork(Network):
    """A backbone with a linear head, and the parts beside it; without parts its state is that of ``Network``."""

    def __init__(self, backbone: Backbone, classes: int, parts: Parts) -> None:
        super().__init__(backbone, classes)
        self.parts = parts
        self.dropout = nn.Dropout(parts.dropout)
        self.losses = LossPrediction(backbone.level_widths) if parts.losses != "none" else None
        self.twins = _twins(backbone.dim) if parts.twins else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, 3, H, W) -> (B, classes)."""
        return cast(Tensor, self.head(self.dropout(self.backbone(images))))

    def forward_all(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings (B, D) and, where there is a module for them, the predicted losses (B,)."""
        if self.losses is None:
            return self.backbone(images), None
        embedded, levels = self.backbone.with_levels(images)
        if self.parts.losses == "detached":
            levels = [level.detach() for level in levels]
        return embedded, self.losses(levels)

    def without_twins(self) -> dict[str, Tensor]:
        """Return the state that predictions need."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("twins.")}


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


def _twins(width: int) -> nn.Module:
    return nn.Sequential(
        projector(width, 2 * TWIN_WIDTH, 2 * TWIN_WIDTH, TWIN_WIDTH), nn.BatchNorm1d(TWIN_WIDTH, affine=False)
    )
