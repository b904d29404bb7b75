import colorsys

import numpy as np
import pytest
import torch

from model.pretext.views import blur, colourful, distort, jitter, luma


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_distort_keeps_shape_and_range_and_changes_every_image():
    images = torch.rand(16, 3, 20, 20, generator=draw())
    views = distort(images, draw(), solarize=0.5)
    assert views.shape == images.shape
    assert 0 <= float(views.min()) <= float(views.max()) <= 1
    assert bool(((views - images).abs().amax(dim=(1, 2, 3)) > 0.05).all())


def test_distort_gives_each_image_its_own_draw():
    views = distort(torch.rand(1, 3, 20, 20, generator=draw()).expand(8, -1, -1, -1), draw())
    assert len({float(view.mean()) for view in views}) == 8


def test_distort_is_as_exact_under_autocast():
    images = torch.rand(8, 3, 32, 32, generator=draw())
    with torch.autocast("cpu", torch.bfloat16):
        inside = distort(images, draw())
    assert torch.equal(inside, distort(images, draw()))


def test_distort_solarizes_the_share_asked_for():
    white = torch.ones(400, 3, 4, 4)
    plain, inverted = (distort(white, draw(), solarize=share) for share in (0.0, 0.25))
    changed = ((plain - inverted).abs().amax(dim=(1, 2, 3)) > 0).float().mean()
    assert float(changed) == pytest.approx(0.25, abs=0.06)


def test_distort_keeps_grey_grey():
    grey = torch.rand(8, 1, 16, 16, generator=draw()).expand(-1, 3, -1, -1)
    assert not bool(colourful(distort(grey, draw())).any())


def test_jitter_of_amount_zero_changes_nothing():
    images = torch.rand(4, 3, 8, 8, generator=draw())
    torch.testing.assert_close(jitter(images, torch.zeros(4), draw()), images, rtol=0, atol=1e-5)


def test_jitter_turns_hues_by_a_tenth_of_the_circle_at_most():
    red = torch.tensor([0.7, 0.3, 0.3]).view(1, 3, 1, 1).expand(200, -1, 4, 4)
    changed = jitter(red, torch.ones(200), draw())[:, :, 0, 0].numpy()
    hues = np.array([(colorsys.rgb_to_hsv(*map(float, pixel))[0] + 0.5) % 1 - 0.5 for pixel in changed])
    assert 0.08 < np.abs(hues).max() < 0.16  # of the circle: YIQ's circle is not quite that of HSV
    assert np.median(hues) == pytest.approx(0, abs=0.03)


def test_blur_is_a_gaussian_of_three_taps():
    images = torch.zeros(2, 3, 5, 5)
    images[:, :, 2, 2] = 1
    blurred = blur(images, torch.tensor([1.0, 0.0]))
    taps = np.exp(-0.5 * np.array([1.0, 0.0, 1.0]))
    taps /= taps.sum()
    np.testing.assert_allclose(blurred[0, 0, 1:4, 1:4].numpy(), np.outer(taps, taps), rtol=1e-5)
    assert torch.equal(blurred[1], images[1])


def test_blur_keeps_an_even_picture():
    even = torch.full((1, 3, 96, 96), 0.3)
    torch.testing.assert_close(blur(even, torch.tensor([2.0])), even)


def test_luma_weighs_the_channels():
    images = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    assert luma(images).flatten().tolist() == pytest.approx([0.299 + 0.2935 + 0.0285] * 3)


def test_colourful_tells_grey_from_colour():
    images = torch.full((2, 3, 4, 4), 0.5)
    images[1, 0, 2, 2] += 1 / 255
    assert colourful(images).tolist() == [False, True]
