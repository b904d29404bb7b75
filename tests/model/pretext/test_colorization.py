import numpy as np
import pytest
import torch
from support.images import bank_of

from model.errors import BadInput
from model.networks.backbones import build_backbone
from model.pretext.colorization import Colorization, colour_side, soft_bins
from model.pretext.colour_space import rgb_to_lab
from model.pretext.run import train_pretext


@pytest.fixture
def net():
    return Colorization().build(build_backbone("compact", 16, seed=0))


def grey(n, side=16):
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 1))
    return np.repeat(pixels, 3, axis=3).astype(np.uint8)


def soft(pixel, bins):
    """Share one pixel between its five nearest bins."""
    distance = ((bins - pixel) ** 2).sum(axis=1)
    nearest = np.argsort(distance, kind="stable")[:5]
    shares = np.zeros(len(bins))
    shares[nearest] = np.exp(-distance[nearest] / (2 * 5.0**2))
    return shares / shares.sum()


def test_soft_bins_share_a_pixel_between_its_nearest(net):
    ab = torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(0)) * 80 - 40
    encoded = soft_bins(ab, net.bins).numpy()
    for n in range(2):
        for y in range(3):
            for x in range(4):
                expected = soft(ab[n, :, y, x].double().numpy(), net.bins.double().numpy())
                np.testing.assert_allclose(encoded[n, :, y, x], expected, rtol=1e-3, atol=1e-6)


def test_loss_is_the_rebalanced_cross_entropy_of_equation_2(net):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    Colorization().loss(net, images, torch.Generator())  # leaves the colours' frequencies
    net.eval()
    bins, p = net.bins.double().numpy(), net.frequency.double().numpy()
    weight = 1 / (0.5 * p + 0.5 / len(bins))
    weight /= (p * weight).sum()  # Eq. 4: the expectation over the pool's pixels is 1
    with torch.inference_mode():
        loss = Colorization().loss(net, images, torch.Generator()).numpy()
        lab = rgb_to_lab(images)
        log_probs = net(lab[:, :1] / 100, 4).log_softmax(dim=1).double().numpy()
    for n in range(2):
        expected = 0.0
        for y in range(4):
            for x in range(4):
                ab = lab[n, 1:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean(dim=(1, 2)).double().numpy()
                z = soft(ab, bins)
                expected -= weight[z.argmax()] * (z * log_probs[n, :, y, x]).sum() / 16
        assert float(loss[n]) == pytest.approx(expected, rel=1e-4)


def test_frequencies_are_the_mean_over_the_minibatches(net):
    targets = [torch.rand(2, len(net.bins), 3, 3).softmax(dim=1) for _ in range(3)]
    for target in targets:
        net.count(target)
    torch.testing.assert_close(net.frequency, torch.stack(targets).mean(dim=(0, 1, 3, 4)))


def test_rare_colours_weigh_more(net):
    net.frequency.fill_(0.0)
    net.frequency[3], net.frequency[5] = 0.9, 0.1
    weights = net.weights()
    assert float(weights[5]) > 2 * float(weights[3])
    assert float((net.frequency * weights).sum()) == pytest.approx(1)


def test_the_network_sees_no_colour(net):
    """Two pictures of the same lightness have the same prediction."""
    seen = []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 16, 16)
    Colorization().loss(net, images, torch.Generator())
    torch.testing.assert_close(seen[0], rgb_to_lab(images)[:, :1] / 100)


@pytest.mark.parametrize(("side", "expected"), [(16, 4), (17, 5), (32, 8), (64, 16), (96, 16)])
def test_colours_are_predicted_at_a_quarter_of_the_side(side, expected):
    assert colour_side(side) == expected


def test_check_refuses_grey_pictures(tmp_path):
    bank = bank_of(tmp_path / "bank", grey(30))
    with pytest.raises(BadInput, match="only 0 of 30 images looked at have any: choose another pretext task"):
        Colorization().check(bank)
    with pytest.raises(BadInput, match="colorization"):
        train_pretext("colorization", bank, out=tmp_path / "w", checkpoint=tmp_path / "c", device="cpu")


def test_check_takes_a_pool_with_some_colour(tmp_path):
    images = grey(30)
    images[::10, :, :, 0] //= 2
    Colorization().check(bank_of(tmp_path / "bank", images))


def test_check_looks_at_a_sample_of_a_large_bank(tmp_path):
    images = grey(600, side=4)
    images[1:-1:2, :, :, 0] //= 2
    with pytest.raises(BadInput, match="of 256 images"):
        Colorization().check(bank_of(tmp_path / "grey", grey(600, side=4)))
    Colorization().check(bank_of(tmp_path / "half", images))
