import numpy as np
import pytest
import torch

from model.networks.backbones import build_backbone
from model.pretext.vae import KL_WEIGHT, LATENT, Vae, divergence


@pytest.fixture
def net():
    return Vae().build(build_backbone("compact", 16, seed=0)).eval()


def error(drawn, images):
    return ((drawn.double().numpy() - (2 * images.double().numpy() - 1)) ** 2).reshape(len(images), -1).mean(axis=1)


def test_divergence_is_that_of_appendix_b():
    mean, log_variance = torch.tensor([[0.0, 1.0], [2.0, -1.0]]), torch.tensor([[0.0, 0.5], [-1.0, 1.0]])
    for row, value in enumerate(divergence(mean, log_variance)):
        theory = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean[row], (log_variance[row] / 2).exp()),
            torch.distributions.Normal(0.0, 1.0),
        ).sum()
        assert float(value) == pytest.approx(float(theory), rel=1e-5)


def test_training_loss_is_reconstruction_and_divergence(net):
    images = torch.rand(3, 3, 16, 16)
    net.training = True  # the task trains, batch normalisation does not
    with torch.inference_mode():
        loss = Vae().loss(net, images, torch.Generator().manual_seed(6)).numpy()
        mean, log_variance = net.encode(images)
        noise = torch.randn(3, LATENT, generator=torch.Generator().manual_seed(6))
        drawn = net.decode(mean + torch.sqrt(log_variance.exp()) * noise, 16)
    m, v = mean.double().numpy(), np.exp(log_variance.double().numpy())
    expected = error(drawn, images) + KL_WEIGHT * 0.5 * (m**2 + v - 1 - np.log(v)).sum(axis=1)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_extracted_loss_is_the_reconstruction_of_the_mean(net):
    images = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        loss = Vae().loss(net, images, torch.Generator()).numpy()
        drawn = net.decode(net.encode(images)[0], 16)
    np.testing.assert_allclose(loss, error(drawn, images), rtol=1e-4)


def test_variance_is_bounded(net):
    with torch.no_grad():
        net.heads.bias.fill_(1e6)
        _, log_variance = net.encode(torch.rand(2, 3, 16, 16))
    assert log_variance.tolist() == [[10.0] * LATENT] * 2
