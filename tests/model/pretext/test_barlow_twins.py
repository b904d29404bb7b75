import numpy as np
import pytest
import torch

from model.networks.backbones import build_backbone
from model.pretext.barlow_twins import LAMBDA, WIDTH, BarlowTwins, barlow_loss, barlow_losses
from model.pretext.views import distort


def standardised(n, d, seed):
    z = np.random.default_rng(seed).normal(size=(n, d))
    return (z - z.mean(axis=0)) / z.std(axis=0)


def correlation(a, b):
    """Equation 2, on centred projections."""
    c = np.empty((a.shape[1], b.shape[1]))
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            c[i, j] = (a[:, i] * b[:, j]).sum() / np.sqrt((a[:, i] ** 2).sum()) / np.sqrt((b[:, j] ** 2).sum())
    return c


def batch_loss(c):
    """Equation 1."""
    d = len(c)
    invariance = sum((1 - c[i, i]) ** 2 for i in range(d))
    redundancy = sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j)
    return invariance + LAMBDA * redundancy


def test_losses_of_the_images_average_to_equation_1():
    a, b = standardised(7, 5, seed=0), standardised(7, 5, seed=1)
    c = correlation(a, b)
    losses = barlow_losses(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(c))
    assert float(losses.mean()) == pytest.approx(batch_loss(c))
    assert float(losses.std()) > 0.1


def test_loss_of_an_image_is_half_its_influence_above_the_mean():
    a, b = standardised(7, 5, seed=0), standardised(7, 5, seed=1)
    c = correlation(a, b)
    losses = barlow_losses(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(c)).numpy()
    step = 1e-6
    for row in range(7):
        heavier = (1 - step) * c + step * np.outer(a[row], b[row])
        influence = (batch_loss(heavier) - batch_loss(c)) / step
        assert losses[row] - batch_loss(c) == pytest.approx(influence / 2, rel=1e-3, abs=1e-4)


def test_training_loss_is_that_of_the_minibatch():
    net = BarlowTwins().build(build_backbone("compact", 16, seed=0))
    images = torch.rand(6, 3, 16, 16)
    loss = BarlowTwins().loss(net, images, torch.Generator().manual_seed(2)).detach()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        views = [distort(images, generator), distort(images, generator, solarize=0.2)]
        a, b = (net.projector(net.backbone(view)).double().numpy() for view in views)
    a, b = ((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5) for z in (a, b))
    c = a.T @ b / 6
    target = np.eye(WIDTH)
    expected = ((target + LAMBDA * (1 - target)) * (target - c) ** 2).sum() / WIDTH
    assert float(loss.mean()) == pytest.approx(expected, rel=1e-3)


def test_extraction_uses_the_remembered_correlation():
    net = BarlowTwins().build(build_backbone("compact", 16, seed=0))
    a, b = (torch.from_numpy(standardised(9, WIDTH, seed)).float() for seed in (0, 1))
    batch = net.correlate(a, b)
    torch.testing.assert_close(net.correlation, 0.1 * batch)
    net.eval()
    assert net.correlate(b, b) is net.correlation


def test_extracted_loss_is_the_mean_over_all_pairs_of_views():
    net = BarlowTwins().build(build_backbone("compact", 16, seed=0))
    images = torch.rand(3, 3, 16, 16)
    BarlowTwins().loss(net, images, torch.Generator())
    net.eval()
    with torch.inference_mode():
        loss = BarlowTwins().loss(net, images, torch.Generator().manual_seed(2)).numpy()
        generator = torch.Generator().manual_seed(2)
        views = [net(distort(images, generator, solarize=share)).double().numpy() for share in (0, 0.2, 0, 0.2)]
    c = net.correlation.double().numpy()
    target = np.eye(WIDTH)
    weight = target + LAMBDA * (1 - target)
    for row in range(3):
        expected = 0.0
        for i in range(4):
            for j in range(4):
                if i != j:
                    product = np.outer(views[i][row], views[j][row])
                    expected += (weight * (target - c) * (target - product)).sum() / WIDTH / 12
        assert float(loss[row]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_barlow_loss_is_the_sum_of_the_paper():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 6, 4))
    correlation = first.T @ second / 6
    expected = sum((1 - correlation[i, i]) ** 2 for i in range(4))
    expected += 0.1 * sum(correlation[i, j] ** 2 for i in range(4) for j in range(4) if i != j)
    found = barlow_loss(torch.tensor(first), torch.tensor(second), 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_barlow_loss_of_identical_uncorrelated_views_is_zero():
    views = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_loss(views, views, 0.005)) == 0.0
