import numpy as np
import pytest

from model.data.augment import NONE, Augmentation
from model.data.bank import ImageBank
from model.training.recipes import LEAST_PASSES, RECIPES, adapted


@pytest.fixture
def bank(tmp_path):
    return bank_of(tmp_path, 16)


def bank_of(folder, side):
    bank = ImageBank.create(folder / f"bank-{side}", side)
    bank.append(np.random.default_rng(0).integers(0, 256, (40, side, side, 3), np.uint8))
    return bank


def recipe_of(bank, name="auto", joint="none", epochs=None):
    return adapted(name, bank, np.arange(20), np.arange(20) % 2, epochs=epochs, joint=joint, seed=0)


@pytest.mark.parametrize("joint", ["none", "barlow_twins"])
@pytest.mark.parametrize("name", RECIPES)
def test_joint_training_goes_without_augmentation_only_by_the_papers_recipe(bank, name, joint):
    found = recipe_of(bank, name, joint).augmentation
    assert (found == NONE) is (joint != "none" and name == "paper")
    assert found.shift == (0 if found == NONE else 0.125)


@pytest.mark.parametrize("name", RECIPES)
def test_dalbt_brings_the_training_of_its_paper_whatever_the_recipe(bank, name):
    """DALBT, section 4.1, and Fig. 1: the classifier's images are not distorted."""
    found = recipe_of(bank, name, "dalbt")
    plan = found.plan
    assert (plan.epochs, plan.batch_size, plan.lr, plan.weight_decay) == (150, 64, 1e-3, 1e-5)
    assert (plan.optimizer, plan.schedule, plan.fill, plan.keep) == ("adam", "constant", False, "last")
    assert (found.gamma, found.redundancy, found.views, found.augmentation) == (1e-3, 5e-3, "labeled", NONE)
    assert recipe_of(bank, name, "dalbt", epochs=20).plan.epochs == 20  # as for MNIST


@pytest.mark.parametrize(("side", "expected"), [(64, {"shift": 0.125, "edge": "zeros"}), (96, {"area": 0.08})])
def test_the_papers_recipe_crops_and_resizes_large_images(tmp_path, side, expected):
    assert recipe_of(bank_of(tmp_path, side), "paper").augmentation == Augmentation(flip=True, **expected)


@pytest.mark.parametrize(
    ("labels", "side", "passes"),
    [(60, 32, 30), (100, 32, 30), (300, 32, 42), (1000, 32, 24), (3000, 32, LEAST_PASSES), (10_000, 32, LEAST_PASSES)],
)
def test_passes_fall_with_the_labels_but_never_below_the_least(labels, side, passes):
    assert RECIPES["auto"].epochs(labels, side) == passes
    assert RECIPES["paper"].epochs(labels, side) == 200
