"""What the worker that trains does before its first job."""

import logging
from pathlib import Path

import pytest
from support.fake_encoder import use_fake_encoders

from backend.config import Settings
from backend.loop.steps.features import Encoders
from backend.loop.warm_up import warm_up
from model.encoders.registry import DEFAULT, SIDES
from model.errors import WeightsMissing


def test_the_default_encoder_is_prepared_for_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = use_fake_encoders(monkeypatch)
    warm_up(Settings(data_dir=tmp_path))
    assert opened == [(DEFAULT, side) for side in SIDES]


def test_a_worker_starts_without_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(encoders: Encoders, name: str, side: int) -> None:
        raise WeightsMissing("the weights are not here")

    monkeypatch.setattr(Encoders, "open", missing)
    caplog.set_level(logging.INFO)
    warm_up(Settings(data_dir=tmp_path))
    assert "the default encoder is not ready: the weights are not here" in caplog.text
