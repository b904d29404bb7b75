"""An encoder that costs nothing: means of parts of the image."""

import numpy as np
import pytest

from backend.loop.steps.features import Encoders
from model.encoders.encoder import Images
from model.encoders.registry import DEFAULT, encoder_info
from model.querying.outputs import FEATURES, FloatArray

GRID = 4  # the last layer has the brightness of so many parts a side, the stages before it the mean colours
OTHER = "timm:other"  # another encoder, with other features


class FakeEncoder:
    """Stands for ``Encoder``. factor: of its features, which tells one encoder's from another's."""

    last, dim = GRID * GRID, GRID * GRID + 3

    def __init__(self, name: str, side: int, factor: float = 1.0) -> None:
        self.name, self.side, self._factor = name, side, factor

    def embed(self, images: Images) -> FloatArray:
        """Return the features (n, dim)."""
        assert images.shape[1:] == (self.side, self.side, 3)
        part = self.side // GRID
        parts = images[:, : part * GRID, : part * GRID].reshape(len(images), GRID, part, GRID, part, 3)
        features = np.concatenate([parts.mean(axis=(2, 4, 5)).reshape(len(images), -1), images.mean(axis=(1, 2))], 1)
        scaled: FloatArray = (features / 64 * self._factor).astype(FEATURES)
        return scaled


def use_fake_encoders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Have fake encoders opened in the place of all; return the list of those that are opened: name and side."""
    opened: list[tuple[str, int]] = []

    def open_fake(encoders: Encoders, name: str, side: int) -> FakeEncoder:
        known = encoder_info(name).name
        opened.append((known, side))
        return FakeEncoder(known, side, 1.0 if known == DEFAULT else 2.0)

    monkeypatch.setattr(Encoders, "open", open_fake)
    return opened
