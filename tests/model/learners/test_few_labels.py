"""Labels that leave little to choose by: a class with one label, one class alone, as many classes as labels."""

import numpy as np
import pytest
from support.images import bank_of, noise

from model.data.features import FeatureBank
from model.learners.base import PoolImages
from model.learners.choice import choose
from model.learners.fitting import fit, load_model, refine
from model.learners.registry import LINEAR
from model.learners.settings import FitSettings
from model.problems import PROBLEMS

N, LAST, MID = 80, 12, 4
CLASSES = ["ant", "bee", "cat"]
SINGLE = PROBLEMS["single_label"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Images whose first feature tells the class: even ones ants, odd ones bees, and the last one a cat."""
    folder = tmp_path_factory.mktemp("pool")
    features = np.random.default_rng(0).gamma(1.0, 0.1, (N, LAST + MID))
    features[np.arange(N), np.append(np.arange(N - 1) % 2, 2)] += 5
    bank = FeatureBank.create(folder / "features", "a", 128, LAST + MID, LAST)
    bank.write(np.arange(N), features.astype(np.float16))
    return PoolImages(bank_of(folder / "bank", noise(N, side=16)), bank)


def targets_of(indices):
    return ["cat" if index == N - 1 else CLASSES[index % 2] for index in indices]


@pytest.mark.parametrize(
    ("indices", "what"),
    [
        ([*range(39), N - 1], "a class with one label"),
        (range(0, 60, 2), "one class alone"),
        ([*range(0, 50, 2), 1], "a class with many labels, and one with one"),
    ],
)
def test_learners_are_compared_whatever_the_labels_are(pool, tmp_path, indices, what):
    indices = np.array(indices)
    targets, settings = targets_of(indices), FitSettings(learner="auto", epochs=1, device="cpu")
    choice = choose(pool, indices, targets, SINGLE, CLASSES, settings, checkpoint=tmp_path / "part")
    assert choice.labels == len(indices)
    assert np.isfinite(list(choice.quality.values())).all(), what
    assert choice.quality[LINEAR] >= 1 - 1 / len(indices) - 1e-3  # all but the single one, which no fold can know


def test_a_refined_model_knows_the_class_with_one_label(pool, tmp_path):
    indices, out = np.array([*range(39), N - 1]), tmp_path / "m.pt"
    targets, settings = targets_of(indices), FitSettings(learner="auto", epochs=1, device="cpu")
    truth = SINGLE.encode(targets, CLASSES)
    fit(pool, indices, truth, SINGLE, CLASSES, settings, out=out, checkpoint=tmp_path / "part")
    refine(pool, indices, targets, SINGLE, CLASSES, settings, None, out=out, checkpoint=tmp_path / "part")
    assert load_model(out, "cpu").predict_pool(pool).probs.argmax(axis=1)[N - 1] == CLASSES.index("cat")
