import numpy as np
import pytest

from model.data.augment import NONE
from model.data.bank import ImageBank
from model.training.recipes import RECIPES, adapted


@pytest.fixture
def bank(tmp_path):
    bank = ImageBank.create(tmp_path / "bank", 16)
    bank.append(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8))
    return bank


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_joint_training_goes_without_augmentation_only_by_the_papers_recipe(bank, name, joint):
    labels = np.arange(20) % 2
    found = adapted(name, bank, np.arange(20), labels, epochs=None, joint=joint, seed=0).augmentation
    assert (found == NONE) is (joint and name == "paper")
    assert found.shift == (0 if found == NONE else 0.125)
