"""Pretext tasks as heads on the encoder: colours where there are any, else rotation."""

from pathlib import Path

import numpy as np
import pytest

from model.data.bank import ImageBank
from model.errors import ModelError
from model.pretext.heads import Heads
from model.training.loop import read_weights

SIDE, IMAGES, ODD = 32, 24, 3


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """A bright field above a dark one, which is always green, but for the first ODD images, where it is magenta."""
    pixels = np.random.default_rng(0).normal(0, 4, (IMAGES, SIDE, SIDE, 1)) + np.zeros(3)
    pixels[:, : SIDE // 2] += 220
    pixels[:, SIDE // 2 :] += (20, 120, 20)
    pixels[:ODD, SIDE // 2 :] += (90, -78, 120)  # of about the same lightness
    return pixels.clip(0, 255).astype(np.uint8)


def bank_of(folder: Path, pixels: np.ndarray) -> ImageBank:
    bank = ImageBank.create(folder, SIDE)
    bank.append(pixels)
    return bank


def test_images_of_unusual_colours_have_the_highest_losses(tmp_path: Path, pictures, encoders: Path) -> None:
    """A stopped fit goes on where it was, and an image's loss does not depend on those beside it."""
    bank, heads = bank_of(tmp_path / "bank", pictures), Heads("auto", encoders)
    out, work = tmp_path / "weights.pt", tmp_path / "work"
    assert not heads.fit("colorization", bank, out=out, work=work, expired=lambda: True)
    assert not out.exists()
    assert heads.fit("colorization", bank, out=out, work=work)
    assert read_weights(out)["task"] == "colorization"
    losses = heads.losses(bank, out, np.arange(IMAGES), work=work)
    assert set(np.argsort(-losses)[:ODD].tolist()) == set(range(ODD))
    assert np.allclose(heads.losses(bank, out, np.array([7, 1]), work=work), losses[[7, 1]], atol=1e-3)
    out.write_bytes(out.read_bytes()[:500])
    with pytest.raises(ModelError, match="damaged"):
        heads.losses(bank, out, np.arange(2), work=work)


def test_grey_images_are_turned_instead(tmp_path: Path, pictures, encoders: Path) -> None:
    grey = np.repeat(pictures.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    bank, heads, out = bank_of(tmp_path / "bank", grey), Heads("auto", encoders), tmp_path / "weights.pt"
    assert heads.fit("colorization", bank, out=out, work=tmp_path / "work")
    assert read_weights(out)["task"] == "rotation"
    assert np.isfinite(heads.losses(bank, out, np.arange(IMAGES), work=tmp_path / "work")).all()
