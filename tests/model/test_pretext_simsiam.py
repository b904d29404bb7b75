import numpy as np
import pytest
import torch

from model.networks import build_backbone
from model.pretext.simsiam import SimSiam
from model.pretext.views import distort


@pytest.fixture
def net():
    return SimSiam().build(build_backbone("compact", 16, seed=0))


def test_loss_is_the_symmetric_cosine_of_equation_2(net):
    images = torch.rand(3, 3, 16, 16)
    net.eval()
    with torch.inference_mode():
        loss = SimSiam().loss(net, images, torch.Generator().manual_seed(4))
        generator = torch.Generator().manual_seed(4)
        expected = np.zeros(3)
        for _ in range(2):  # pairs of views
            first, second = (net(distort(images, generator)) for _ in range(2))
            for z, p in ((second[0], first[1]), (first[0], second[1])):
                for row in range(3):
                    one, other = z[row].numpy(), p[row].numpy()
                    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
                    expected[row] += (1 - cosine) / 4
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-4)


def test_gradient_stops_at_the_target(net):
    """With a predictor that forgets its input, nothing but the predictor can learn."""
    torch.nn.init.zeros_(net.predictor[-1].weight)
    SimSiam().loss(net, torch.rand(4, 3, 16, 16), torch.Generator()).mean().backward()
    assert all(float(p.grad.abs().max()) == 0 for p in net.projector.parameters())
    assert float(net.predictor[-1].bias.grad.abs().max()) > 0
