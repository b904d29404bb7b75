"""The recipes named ``paper`` against what PT4AL (ECCV 2022) and its code publish."""

import numpy as np
import pytest
import torch

from model.data.bank import ImageBank
from model.learners.own_network import RECIPES as MAIN
from model.learners.own_network import FitSettings, Learner, fit_network
from model.pretext.run import PAPERS, train_pretext
from model.pretext.run import PRETEXT_RECIPES as PRETEXT
from model.problems import problem
from model.training.loop import read_weights


def test_pretext_training_is_the_papers():
    recipe = PRETEXT["paper"]
    plan, how = recipe.plan, recipe.augmentation
    assert (plan.epochs, plan.batch_size, plan.lr, plan.momentum, plan.weight_decay) == (15, 256, 0.1, 0.9, 5e-4)
    assert (plan.nesterov, plan.schedule, plan.keep, recipe.tiny_epochs) == (False, "constant", "best", None)
    assert (how.flip, how.shift, how.zoom, how.colour, how.erase) == (False, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("task", "epochs", "batch", "lr", "decay", "schedule", "optimizer"),
    [("simsiam", 800, 512, 0.06, 5e-4, "cosine", "sgd"), ("simclr", 500, 512, 0.4, 1e-4, "cosine", "sgd"),
     ("vae", 100, 200, 1e-3, 5e-4, "constant", "adam")],
)  # fmt: skip
def test_tasks_of_other_papers_have_their_training(task, epochs, batch, lr, decay, schedule, optimizer):
    plan = PAPERS[task].plan
    assert (plan.epochs, plan.batch_size, plan.lr, plan.weight_decay) == (epochs, batch, lr, decay)
    assert (plan.schedule, plan.optimizer) == (schedule, optimizer)
    assert optimizer == "adam" or not plan.nesterov
    assert PAPERS[task].augmentation == PRETEXT["paper"].augmentation
    if schedule == "cosine":
        assert [plan.rate(share) / lr for share in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_main_training_is_the_papers():
    recipe = MAIN["paper"]
    plan, how = recipe.plan, recipe.augmentation
    assert (plan.epochs, plan.batch_size, plan.momentum, plan.weight_decay) == (200, 128, 0.9, 5e-4)
    assert (plan.nesterov, plan.min_steps, plan.keep) == (False, 1, "last")  # the code keeps the best on test data
    assert [round(plan.rate(epoch / 200), 4) for epoch in (0, 80, 159, 160, 199)] == [0.1, 0.1, 0.1, 0.01, 0.01]
    assert (how.flip, how.shift * 32, how.edge, how.zoom) == (True, 4, "zeros", 1)  # RandomCrop(32, padding=4)
    assert (recipe.label_smoothing, recipe.fit_mirror, recipe.recalibrate, recipe.steps) == (0.0, False, 0, 0)


def test_the_papers_pretext_network_is_resnet18_and_the_main_model_starts_from_scratch(tmp_path):
    bank = ImageBank.create(tmp_path / "bank", 16)
    bank.append(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8))
    weights, out = tmp_path / "p.pt", tmp_path / "m.pt"
    checkpoint = tmp_path / "c.pt"
    found = train_pretext("rotation", bank, out=weights, checkpoint=checkpoint, recipe="paper", epochs=1, device="cpu")
    assert found.network == "resnet18"
    assert read_weights(weights)["module"]["head.weight"].shape == (4, 512)
    summary = fit_network(
        bank, np.arange(8), np.arange(8) % 2, problem("single_label"), ["a", "b"],
        FitSettings(network="resnet18", init="scratch", recipe="paper", epochs=1, device="cpu"),
        out=out, checkpoint=checkpoint, pretext_weights=weights,
    )  # fmt: skip
    assert (summary.network, summary.init) == ("resnet18", "scratch")
    assert torch.isfinite(torch.from_numpy(Learner.load(out, device="cpu").predict(bank).probs)).all()
