import numpy as np
import pytest
import torch

from model.networks.backbones import build_backbone
from model.pretext.simsiam import SimSiam
from model.pretext.views import distort


@pytest.fixture
def net():
    return SimSiam().build(build_backbone("compact", 16, seed=0))


def test_extracted_loss_is_the_cosine_of_equation_2_over_all_pairs(net):
    images = torch.rand(3, 3, 16, 16)
    net.eval()
    with torch.inference_mode():
        loss = SimSiam().loss(net, images, torch.Generator().manual_seed(4))
        generator = torch.Generator().manual_seed(4)
        views = [net(distort(images, generator)) for _ in range(4)]
        expected = np.zeros(3)
        for i in range(4):
            for j in range(4):
                for row in range(3) if i != j else ():
                    p, z = views[i][1][row].numpy(), views[j][0][row].numpy()
                    expected[row] += (1 - p @ z / np.linalg.norm(p) / np.linalg.norm(z)) / 12
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-4)


def test_training_loss_is_symmetric_between_two_views(net):
    images = torch.rand(4, 3, 16, 16)
    loss = SimSiam().loss(net, images, torch.Generator().manual_seed(4)).detach()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # the same statistics of the minibatch: both views together
        z, p = net(torch.cat([distort(images, generator), distort(images, generator)]))
    cosine = torch.nn.functional.cosine_similarity
    expected = 1 - (cosine(p[:4], z[4:]) + cosine(p[4:], z[:4])) / 2
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_gradient_stops_at_the_target(net):
    """With a predictor that forgets its input, nothing but the predictor can learn."""
    torch.nn.init.zeros_(net.predictor[-1].weight)
    SimSiam().loss(net, torch.rand(4, 3, 16, 16), torch.Generator()).mean().backward()
    assert all(float(p.grad.abs().max()) == 0 for p in net.projector.parameters())
    assert float(net.predictor[-1].bias.grad.abs().max()) > 0
