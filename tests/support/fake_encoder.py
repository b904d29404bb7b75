"""An encoder that costs nothing: means of parts of the image, with a last block of one layer."""

import numpy as np
import pytest
import torch
from torch import nn

from backend.loop.steps.features import Encoders
from model.encoders.encoder import Images
from model.encoders.network import Top
from model.encoders.registry import DEFAULT, encoder_info
from model.learners import finetune, trials
from model.querying.outputs import FEATURES, FloatArray

GRID = 4  # the last layer has the brightness of so many parts a side, the stages before it the mean colours
OTHER = "timm:other"  # another encoder, with other features


class FakeEncoder:
    """Stands for ``Encoder``. factor: of its features, which tells one encoder's from another's."""

    last, dim = GRID * GRID, GRID * GRID + 3
    shape = (3, GRID, GRID)  # of the activations: mean colours of the parts
    activations = 3 * GRID * GRID

    def __init__(self, name: str, side: int, factor: float = 1.0) -> None:
        self.name, self.side, self._factor = name, side, factor

    def embed(self, images: Images) -> FloatArray:
        """Return the features (n, dim)."""
        colours = self._colours(images)
        features = np.concatenate([colours.mean(axis=3).reshape(len(images), -1), images.mean(axis=(1, 2))], 1)
        scaled: FloatArray = (features / 64 * self._factor).astype(FEATURES)
        return scaled

    def activate(self, images: Images) -> tuple[FloatArray, FloatArray]:
        """Return the features (n, dim) and the activations (n, activations)."""
        maps = self._colours(images).transpose(0, 3, 1, 2).reshape(len(images), -1) / 64 * self._factor
        return self.embed(images), maps.astype(FEATURES)

    def _colours(self, images: Images) -> FloatArray:
        """Return the mean colours of the parts, (n, GRID, GRID, 3)."""
        assert images.shape[1:] == (self.side, self.side, 3)
        part = self.side // GRID
        parts = images[:, : part * GRID, : part * GRID].reshape(len(images), GRID, part, GRID, part, 3)
        colours: FloatArray = parts.mean(axis=(2, 4))
        return colours


def fake_top(*_: object) -> Top:
    """Return a last block that starts from the brightness of each part, as the features do."""
    block = nn.Conv2d(3, GRID * GRID, GRID)
    with torch.no_grad():
        block.weight.copy_(torch.eye(GRID * GRID).view(GRID * GRID, 1, GRID, GRID).expand(-1, 3, -1, -1) / 3)
        block.bias.zero_()  # type: ignore[union-attr]
    return Top(block, nn.Identity(), FakeEncoder.shape)


def use_fake_encoders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Have fake encoders opened in the place of all; return the list of those that are opened: name and side."""
    opened: list[tuple[str, int]] = []

    def open_fake(encoders: Encoders, name: str, side: int) -> FakeEncoder:
        known = encoder_info(name).name
        opened.append((known, side))
        return FakeEncoder(known, side, 1.0 if known == DEFAULT else 2.0)

    monkeypatch.setattr(Encoders, "open", open_fake)
    monkeypatch.setattr(trials, "TINY", 0)  # the images of tests stand for larger ones
    for name in ("open_top", "bare_top"):
        monkeypatch.setattr(finetune, name, fake_top)
    return opened
