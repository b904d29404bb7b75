from itertools import permutations

import numpy as np
import pytest
import torch

from model.data.bank import ImageBank
from model.errors import BadInput
from model.networks.backbones import build_backbone
from model.pretext.jigsaw import Jigsaw, cut, distant_permutations


def test_permutations_are_chosen_greedily_by_hamming_distance():
    chosen = distant_permutations(3)
    everything = np.array(list(permutations(range(9))))
    expected = [tuple(range(9))]
    while len(expected) < 3:
        distance = np.stack([(everything != np.array(one)).sum(axis=1) for one in expected])
        merit = list(zip(distance.min(axis=0).tolist(), distance.sum(axis=0).tolist(), strict=True))
        expected.append(tuple(everything[merit.index(max(merit))]))
    assert [tuple(row) for row in chosen] == expected


def test_permutations_differ_in_seven_places_at_least():
    chosen = distant_permutations(64)
    assert np.array_equal(np.sort(chosen, axis=1), np.tile(np.arange(9), (64, 1)))
    distance = (chosen[:, None] != chosen[None]).sum(axis=2)
    assert distance[~np.eye(64, dtype=bool)].min() == 7
    assert np.array_equal(distance[:9, :9], 9 * (1 - np.eye(9)))  # nine of them can differ everywhere


@pytest.mark.parametrize("side", [16, 32, 48, 64, 95, 96])
def test_cut_takes_the_tiles_row_by_row(side):
    """Nine cells whose right half is brighter, in each cell by more than in the one before."""
    cells = np.arange(side) * 3 // side
    right = (np.arange(side) * 3 % side) * 2 >= side
    marks = torch.from_numpy((cells[:, None] * 3 + cells + 1) * 0.02 * right).float()
    tiles = cut(marks.expand(1, 3, -1, -1), torch.zeros(1, 9, 2))
    assert tiles.shape == (9, 3, max(-(-side * 85 // 300), 16), max(-(-side * 85 // 300), 16))
    np.testing.assert_allclose(tiles.mean(dim=(1, 2, 3)).numpy(), 0.5, atol=1e-5)
    deviation = tiles.std(dim=(1, 2, 3)).numpy()
    assert bool((np.diff(deviation) > 0).all())  # weak marks are levelled less: the order is the cells'


def test_cut_samples_the_centre_of_a_cell():
    side = 60  # cells of 20 pixels, tiles of 17: pixel for pixel, 1.5 pixels from the cell's edge
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([1.0, -1.0]).expand(1, 9, 2)  # as far right and up as it goes
    for offset, left, top in ((shift, 3, 0), (-shift, 0, 3)):
        tile = cut(images, offset)[4]
        expected = images[0, :, 20 + top : 37 + top, 20 + left : 37 + left]
        levelled = (expected - expected.mean()) / (expected.std(correction=0) + 0.05) / 4 + 0.5
        torch.testing.assert_close(tile, levelled, rtol=1e-3, atol=1e-3)


def test_cut_has_no_seam_of_a_neighbour():
    """What lies beyond a tile's cell never reaches it, wherever it lies."""
    images = torch.zeros(1, 3, 30, 30)
    images[..., 10:20, 10:20] = 0.5
    for corner in ((1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)):
        tile = cut(images, torch.tensor(corner).expand(1, 9, 2))[4]
        assert float(tile[:, 1:-1, 1:-1].std()) < 1e-5


def test_loss_is_the_cross_entropy_over_all_orders():
    net = Jigsaw().build(build_backbone("compact", 16, seed=0)).eval()
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        loss = Jigsaw().loss(net, images, torch.Generator())
        share = Jigsaw().accuracy(net, images, torch.Generator())
        tiles = net.embed(net.backbone(cut(images, torch.zeros(2, 9, 2)))).view(2, 9, -1)
        for row in range(2):
            expected, hits = 0.0, 0
            for number, order in enumerate(distant_permutations(64)):
                logits = net.head(torch.cat([tiles[row, place] for place in order]).unsqueeze(0))
                expected -= float(logits.log_softmax(dim=1)[0, number]) / 64
                hits += int(logits.argmax()) == number
            assert float(loss[row]) == pytest.approx(expected, rel=1e-4)
            assert float(share[row]) == pytest.approx(hits / 64)


def test_check_refuses_pictures_without_room_for_tiles(tmp_path):
    with pytest.raises(BadInput, match="at least 12 pixels, the bank has 8"):
        Jigsaw().check(ImageBank.create(tmp_path / "bank", 8))
