import numpy as np
import pytest
import torch
from torch.nn import functional

from model.data.augment import NONE
from model.data.bank import ImageBank
from model.networks.backbones import build_backbone
from model.networks.main import MainNetwork, Parts
from model.pretext.barlow_twins import SOLARIZED
from model.pretext.views import distort
from model.problems import problem
from model.training.loop import Images, Plan
from model.training.objectives import (
    ATTACHED,
    CRITIC_WEIGHT,
    MARGIN,
    PENALTY,
    LabelObjective,
    critic_loss,
    gradient_penalty,
    rank_loss,
    ranking_loss,
)
from model.training.recipes import JOINT_RECIPES, Recipe

SINGLE, CPU = problem("single_label"), torch.device("cpu")


def objective_of(folder, parts, recipe, n=8):
    """An objective on n labeled images of a pool of twelve."""
    bank = ImageBank.create(folder / "bank", 16)
    bank.append(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8))
    torch.manual_seed(0)
    module = MainNetwork(build_backbone("compact", 16, seed=0), SINGLE.head(256, 2), parts)
    images, pool = Images(bank, np.arange(n), CPU), Images(bank, np.arange(12), CPU)
    return LabelObjective(module, SINGLE, images, torch.arange(n) % 2, pool, recipe), module, images


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("losses", "done", "reached"),
    [("attached", 0.0, True), ("attached", 0.59, True), ("attached", 0.6, False), ("attached", 0.99, False),
     ("detached", 0.0, False)],
)  # fmt: skip
def test_the_gradient_of_predicted_losses_stops_after_120_of_200_epochs(tmp_path, losses, done, reached):
    """What is left of the objective's gradient in the backbone without that of the labels' own loss."""
    plain = Recipe(Plan(1, 8, lr=0.1), NONE, label_smoothing=0.0, fit_mirror=False)
    objective, module, images = objective_of(tmp_path, Parts(losses=losses), plain)
    assert ATTACHED == 120 / 200
    objective.loss(torch.arange(8), draw(), done).backward()
    found = [parameter.grad.clone() for parameter in module.backbone.parameters()]
    assert any(parameter.grad.abs().max() > 0 for parameter in module.losses.parameters())
    module.zero_grad()
    functional.cross_entropy(module(images.take(torch.arange(8))), torch.arange(8) % 2).backward()
    alone = [parameter.grad for parameter in module.backbone.parameters()]
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(found, alone, strict=True))
    assert same is not reached


def test_the_loss_of_dalbt_is_that_of_its_paper_on_the_labeled_images(tmp_path):
    """Eq. 2 by hand: cross-entropy of the images as they are, and gamma times Barlow Twins' loss of their two views."""
    recipe = JOINT_RECIPES["dalbt"]
    objective, module, images = objective_of(tmp_path, Parts(projector=True), recipe)
    found = float(objective.loss(torch.arange(8), draw(), 0.0).detach())
    pictures, generator = images.take(torch.arange(8)), draw()
    views = [distort(pictures, generator), distort(pictures, generator, solarize=SOLARIZED)]
    with torch.no_grad():
        embedded = module.backbone(torch.cat([pictures, *views]))
        classified = functional.cross_entropy(module.head(embedded[:8]), torch.arange(8) % 2)
        first, second = (module.projector(part).numpy() for part in embedded[8:].chunk(2))
    first, second = (z / np.sqrt((z**2).sum(axis=0)) for z in (first, second))
    c = first.T @ second
    off = ~np.eye(len(c), dtype=bool)
    barlow = ((1 - c.diagonal()) ** 2).sum() + 5e-3 * (c[off] ** 2).sum()
    assert found == pytest.approx(float(classified) + 1e-3 * barlow, rel=1e-3)


def test_dalbt_trains_on_a_minibatch_of_one_without_its_views(tmp_path):
    objective, _, _ = objective_of(tmp_path, Parts(projector=True), JOINT_RECIPES["dalbt"], n=1)
    assert torch.isfinite(objective.loss(torch.arange(1), draw(), 0.0))


def test_ranking_loss_by_hand():
    # Pairs (0, 2) and (1, 3): the first is ordered rightly by 2, more than the margin; the second wrongly by 0.5.
    predicted, losses = torch.tensor([3.0, 0.0, 1.0, 0.5]), torch.tensor([2.0, 1.0, 1.0, 0.2])
    assert float(ranking_loss(predicted, losses)) == pytest.approx((0 + MARGIN + 0.5) / 2)


def test_ranking_loss_leaves_out_what_has_no_pair():
    assert float(ranking_loss(torch.tensor([3.0]), torch.tensor([1.0]))) == 0.0
    pair = ranking_loss(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1.0]))
    odd = ranking_loss(torch.tensor([0.0, 1.0, 9.0]), torch.tensor([2.0, 1.0, 7.0]))
    assert float(pair) == float(odd) == pytest.approx(MARGIN + 1)


def test_ranking_loss_of_equal_losses_is_the_margin_and_pulls_nowhere():
    predicted = torch.tensor([3.0, 1.0], requires_grad=True)
    loss = ranking_loss(predicted, torch.tensor([1.0, 1.0]))
    loss.backward()
    assert float(loss.detach()) == MARGIN
    assert predicted.grad.tolist() == [0.0, 0.0]


def test_rank_loss_is_the_cross_entropy_of_which_loss_is_higher():
    predicted, losses = torch.tensor([3.0, 0.0, 1.0, 0.5]), torch.tensor([2.0, 0.1, 1.0, 0.2])
    first, second = torch.sigmoid(torch.tensor([2.0, -0.5]))  # of the gaps; the first of a pair is higher, then not
    assert float(rank_loss(predicted, losses)) == pytest.approx(float(-(first.log() + (1 - second).log()) / 2))
    assert float(rank_loss(predicted[:1], losses[:1])) == 0.0


def test_the_gradient_penalty_is_of_the_critics_slope_by_its_definition():
    critic = torch.nn.Sequential(torch.nn.Linear(3, 1))
    slope = float(critic[0].weight.detach().norm())
    found = gradient_penalty(critic, torch.randn(5, 3), torch.randn(5, 3), draw())
    assert float(found.detach()) == pytest.approx((slope - 1) ** 2, rel=1e-4)


def test_features_go_down_the_critics_difference_and_the_critic_goes_up():
    """WAAL's two steps, each by its own gradient: that of alpha W for the features, that of -alpha W + alpha 5 P."""
    torch.manual_seed(1)
    critic = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1), torch.nn.Sigmoid())
    labeled, unlabeled = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
    critic_loss(critic, labeled, unlabeled, 0.25, draw()).backward()
    found = labeled.grad.clone(), unlabeled.grad.clone(), [p.grad.clone() for p in critic.parameters()]
    for part in (labeled, unlabeled):
        part.grad = None
    critic.zero_grad()
    (CRITIC_WEIGHT * (critic(unlabeled).mean() - 0.25 * critic(labeled).mean())).backward()
    torch.testing.assert_close(found[0], labeled.grad)
    torch.testing.assert_close(found[1], unlabeled.grad)
    critic.zero_grad()
    known, unknown = labeled.detach(), unlabeled.detach()
    difference = critic(unknown).mean() - 0.25 * critic(known).mean()
    (CRITIC_WEIGHT * (PENALTY * gradient_penalty(critic, known, unknown, draw()) - difference)).backward()
    for own, parameter in zip(found[2], critic.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad)
