"""A problem that nothing else knows of: how bright an image is, a number from 0 to 1."""

import numpy as np
import pytest
from torch import nn
from torch.nn import functional

from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.evaluation.calibration import expected_errors, fit_temperature, predict
from model.learners.base import PoolImages, evaluate
from model.learners.linear import LinearModel, fit_linear
from model.learners.own_network import FitSettings, Learner, fit_network
from model.problems import PROBLEMS
from model.problems.base import VectorProblem
from model.querying.outputs import COMMON_DERIVED
from model.querying.samplers import samplers_for


class Brightness(VectorProblem):
    """A target is a number from 0 to 1."""

    name = "brightness"
    metric = "closeness"
    base_outputs = ("values",)
    outputs = COMMON_DERIVED | {"values", "embeddings", "pretext_embeddings"}

    def fits(self, target, classes):
        return isinstance(target, float) and 0 <= target <= 1

    def quality(self, prediction, target):
        return 1 - abs(prediction - target)

    def decode(self, outputs, indices, classes, decoding):
        return outputs.values[indices, 0].tolist()

    def encode(self, targets, classes):
        return np.array(targets, np.float32)[:, None]

    def head(self, width, classes):
        return nn.Linear(width, 1)

    def loss(self, raw, truth, label_smoothing):
        # Its gradient stays below 1: recipes have learning rates for cross-entropies, under which squares diverge.
        return functional.binary_cross_entropy_with_logits(raw, truth, reduction="none").sum(dim=1)

    def outputs_of(self, raw):
        return {"values": raw.sigmoid()}


def test_a_new_problem_is_learned_measured_and_asked_by_without_any_other_change(tmp_path, monkeypatch) -> None:
    kind = Brightness()
    monkeypatch.setitem(PROBLEMS, kind.name, kind)
    generator = np.random.default_rng(0)
    targets = generator.random(200)
    noise = generator.normal(0, 20, (200, 16, 16, 3))
    bank = ImageBank.create(tmp_path / "bank", 16)
    bank.append((255 * targets[:, None, None, None] + noise).clip(0, 255).astype(np.uint8))
    truth = kind.encode(targets[:60].tolist(), [])
    settings = FitSettings(init="scratch", epochs=20, device="cpu")
    fit_network(bank, np.arange(60), truth, kind, [], settings, out=tmp_path / "m.pt", checkpoint=tmp_path / "c.pt")
    learner, rest = Learner.load(tmp_path / "m.pt", device="cpu"), np.arange(60, 200)
    guess = 1 - np.abs(targets[60:] - targets[:60].mean()).mean()  # the mean of the labels for every image
    assert learner.evaluate(bank, rest, targets[60:].tolist(), []) > guess + 0.1
    outputs = learner.predict(bank)
    temperature = fit_temperature(kind, outputs, np.arange(60), truth)
    assert temperature.value == pytest.approx(1.0)  # nothing to calibrate
    assert len(predict(kind, outputs, rest, [], {}, temperature.value)[0]) == 140
    assert expected_errors(kind, outputs, np.ones(200, bool), temperature, {}).expected == 0
    by_all = ("random", "least_confidence", "core_set", "uncertainty_herding", "highest_loss", "lowest_loss")
    assert samplers_for(kind) == by_all


def test_a_new_problem_is_learned_from_the_features_of_an_encoder(tmp_path, monkeypatch) -> None:
    kind = Brightness()
    monkeypatch.setitem(PROBLEMS, kind.name, kind)
    generator = np.random.default_rng(0)
    targets = generator.random(200)
    features = FeatureBank.create(tmp_path / "features", "a", 128, 20, 10)
    features.write(np.arange(200), np.outer(targets, generator.random(20)) + generator.random((200, 20)) / 5)
    bank = ImageBank.create(tmp_path / "bank", 1)
    bank.append(np.zeros((200, 1, 1, 3), np.uint8))
    fit_linear(features, np.arange(60), kind.encode(targets[:60].tolist(), []), kind, [], out=tmp_path / "m.pt")
    model, rest = LinearModel.load(tmp_path / "m.pt"), np.arange(60, 200)
    guess = 1 - np.abs(targets[60:] - targets[:60].mean()).mean()
    assert evaluate(model, PoolImages(bank, features), rest, targets[60:].tolist(), []) > guess + 0.1
