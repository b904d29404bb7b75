import pytest
import torch

from model.training.objectives import MARGIN, ranking_loss


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
