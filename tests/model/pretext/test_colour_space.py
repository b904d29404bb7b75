import numpy as np
import pytest
import torch

from model.pretext.colour_space import ab_bins, rgb_to_lab


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # published values of sRGB under D65
        ((0, 0, 0), (0, 0, 0)),
        ((1, 1, 1), (100, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((119 / 255,) * 3, (50.03, 0, 0)),
        ((1 / 255,) * 3, (0.27, 0, 0)),  # where the cube root is a line
    ],
)
def test_rgb_to_lab_gives_the_published_values(rgb, lab):
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1)).flatten().tolist()
    assert found == pytest.approx(lab, abs=0.02)


def test_every_colour_lies_in_a_bin():
    colours = torch.rand(1, 3, 100, 100, generator=torch.Generator().manual_seed(0))
    ab = rgb_to_lab(colours)[0, 1:].flatten(1).T.numpy()
    bins = {tuple(centre) for centre in ab_bins().tolist()}
    assert all((round(a / 10) * 10.0, round(b / 10) * 10.0) in bins for a, b in ab)


def test_bins_are_on_the_grid_and_each_there_once():
    bins = ab_bins()
    assert len(np.unique(bins, axis=0)) == len(bins) == 260
    assert np.array_equal(bins % 10, np.zeros_like(bins))
