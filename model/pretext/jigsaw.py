"""Jigsaw puzzles (Noroozi and Favaro 2016), one of the tasks that PT4AL compares (section 6.2)."""

from functools import lru_cache
from itertools import permutations
from math import ceil
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.bank import ImageBank
from model.device import full_precision
from model.errors import BadInput
from model.networks.backbones import Backbone
from model.networks.heads import projector
from model.pretext.base import PretextTask
from model.pretext.registry import PRETEXT_TASKS

SIDE = 3  # tiles of a row and of a column
TILES = SIDE**2
PERMUTATIONS = 64
DRAWN = 8  # permutations an image, in training
GAP = 0.85  # side of a tile as a share of its cell's (the paper's 64 of 75 pixels): edges must not show the order
SMALLEST_TILE = 16  # pixels: smaller ones are enlarged, since backbones shrink a picture eightfold before they pool
EVEN = 0.05  # added to the deviation of a tile, for tiles without contrast
EMBEDDING, HIDDEN = 64, 256  # width of the embedding of a tile, and of the layer that sees all nine


class Jigsaw(PretextTask):
    """Predict in which of 64 orders the nine tiles of an image are.

    The paper's context-free network: each tile passes the backbone alone, and the head sees the nine embeddings in the
    shuffled order. Many orders of an image therefore cost one pass of its tiles: training draws eight, ``eval`` mode
    takes all 64, so that no draw decides a loss. Tiles are cut with gaps and brought to the same brightness and
    contrast, because edges and shading would show the order; in training a tile is anywhere in its cell, else at the
    centre. Any side works: tiles are resampled, not cut at whole pixels.
    """

    name = "jigsaw"
    needs_generator = True

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a head over nine tiles."""
        return _Puzzle(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the cross-entropy against the order (Eq. 2), averaged over the orders."""
        logits, truth = _solve(cast(_Puzzle, net), images, generator)
        return functional.cross_entropy(logits.float(), truth, reduction="none").view(len(images), -1).mean(dim=1)

    def accuracy(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the share of the orders that are predicted right, (B,)."""
        logits, truth = _solve(cast(_Puzzle, net), images, generator)
        return (logits.argmax(dim=1) == truth).float().view(len(images), -1).mean(dim=1)

    def check(self, bank: ImageBank) -> None:
        """Raise BadInput if the tiles would be too small to show anything."""
        smallest = PRETEXT_TASKS[self.name].smallest_side
        if bank.side < smallest:
            raise BadInput(f"jigsaw needs images of at least {smallest} pixels, the bank has {bank.side}")


class _Puzzle(nn.Module):
    orders: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.embed = nn.Linear(backbone.dim, EMBEDDING)
        self.head = projector(TILES * EMBEDDING, HIDDEN, PERMUTATIONS)
        self.register_buffer("orders", torch.from_numpy(distant_permutations(PERMUTATIONS)), persistent=False)

    def forward(self, tiles: Tensor, chosen: Tensor) -> Tensor:
        """Return the logits of each order, (B * 9, 3, t, t) and ids of orders (B, V) -> (B * V, PERMUTATIONS)."""
        embedded = self.embed(self.backbone(tiles)).view(-1, TILES, EMBEDDING)
        order = self.orders[chosen]  # (B, V, 9)
        rows = torch.arange(len(embedded), device=embedded.device).view(-1, 1, 1)
        return cast(Tensor, self.head(embedded[rows, order].flatten(2).flatten(0, 1)))


def _solve(net: _Puzzle, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return logits (B * V, PERMUTATIONS) and ids of the orders (B * V,), those of an image side by side."""
    n = len(images)
    if net.training:
        chosen = torch.randint(PERMUTATIONS, (n, DRAWN), generator=generator).to(images.device)
        offset = torch.rand(n, TILES, 2, generator=generator).to(images.device) * 2 - 1
    else:
        chosen = torch.arange(PERMUTATIONS, device=images.device).expand(n, -1)
        offset = torch.zeros(n, TILES, 2, device=images.device)
    return net(cut(images, offset), chosen), chosen.flatten()


def cut(images: Tensor, offset: Tensor) -> Tensor:
    """Cut and level the nine tiles of each image, row by row, (B, 3, H, W) -> (B * 9, 3, t, t).

    offset: (B, 9, 2) right and down, from -1 to 1, where a tile lies in its cell.
    """
    n, _, side, _ = images.shape
    tile = max(ceil(side / SIDE * GAP), SMALLEST_TILE)
    with full_precision(images):
        cell = torch.arange(SIDE, device=images.device) * 2.0 - SIDE + 1  # centres, in halves of a cell
        rows, columns = torch.meshgrid(cell, cell, indexing="ij")
        centre = torch.stack([columns, rows], dim=2).view(1, TILES, 2) + offset * (1 - GAP)
        pixel = (torch.arange(tile, device=images.device) * 2 + 1) / tile - 1  # centres of pixels, -1 to 1
        across = (centre[:, :, None, None, 0] + GAP * pixel).expand(-1, -1, tile, -1)
        down = (centre[:, :, None, None, 1] + GAP * pixel.unsqueeze(1)).expand(-1, -1, -1, tile)
        grid = torch.stack([across, down], dim=4).flatten(1, 2) / SIDE
        tiles = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
        tiles = tiles.view(n, 3, TILES, tile, tile).transpose(1, 2).flatten(0, 1)
        deviation, mean = torch.std_mean(tiles, dim=(1, 2, 3), correction=0, keepdim=True)
        levelled = (tiles - mean) / (deviation + EVEN) / 4 + 0.5  # what a backbone takes as mean 0 and deviation 1
    return levelled.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=2)
def distant_permutations(count: int) -> npt.NDArray[np.int64]:
    """Choose orders of the nine tiles that differ in as many places as they can, (count, 9) (paper, Algorithm 1).

    Greedy and without a draw: from the identity on, always the order whose smallest Hamming distance to those chosen
    is largest; among equals the one with the largest sum of distances, then the first in lexicographic order.
    """
    everything = np.array(list(permutations(range(TILES))), np.uint8)
    chosen = [0]
    nearest = np.full(len(everything), TILES, np.int64)
    total = np.zeros(len(everything), np.int64)
    for _ in range(count - 1):
        distance = (everything != everything[chosen[-1]]).sum(axis=1)
        nearest = np.minimum(nearest, distance)
        total += distance
        chosen.append(int(np.argmax(nearest * (count * TILES) + total)))
    return everything[chosen].astype(np.int64)
