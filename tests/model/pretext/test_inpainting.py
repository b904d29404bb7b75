import pytest
import torch

from model.networks.backbones import build_backbone
from model.pretext.inpainting import Inpainting, four_quarters, one_hole


@pytest.fixture
def net():
    return Inpainting().build(build_backbone("compact", 16, seed=0)).eval()


@pytest.mark.parametrize("side", [16, 17, 32, 95])
def test_holes_are_a_quarter_of_the_picture_and_lie_anywhere(side):
    holes = one_hole(torch.zeros(400, 3, side, side), torch.Generator().manual_seed(0))
    edge = (side + 1) // 2
    assert holes.sum(dim=(1, 2, 3)).tolist() == [edge**2] * 400
    corners = {tuple(hole[0].nonzero()[0].tolist()) for hole in holes}
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(side - edge + 1))


@pytest.mark.parametrize("side", [16, 17])
def test_four_quarters_cover_the_picture(side):
    holes = four_quarters(torch.zeros(2, 3, side, side)).view(2, 4, side, side)
    covered = holes.sum(dim=1)
    assert int(covered.min()) == 1
    assert int(covered.max()) == (1 if side % 2 == 0 else 4)
    assert torch.equal(holes[0], holes[1])


def test_loss_is_the_error_inside_the_holes(net):
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        loss = Inpainting().loss(net, images, torch.Generator())
        for row in range(2):
            expected = 0.0
            for top in (0, 8):
                for left in (0, 8):
                    hidden = images[row : row + 1].clone()
                    hidden[..., top : top + 8, left : left + 8] = 0.5
                    painted = net(hidden)[0]
                    for y in range(top, top + 8):
                        for x in range(left, left + 8):
                            truth = 2 * images[row, :, y, x] - 1
                            expected += float(((painted[:, y, x] - truth) ** 2).sum()) / (4 * 64 * 3)
            assert float(loss[row]) == pytest.approx(expected, rel=1e-4)


def test_what_the_hole_hides_does_not_reach_the_network(net):
    seen = []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(3, 3, 16, 16)
    net.train()
    Inpainting().loss(net, images, torch.Generator().manual_seed(5))
    holes = one_hole(images, torch.Generator().manual_seed(5)).expand_as(images)
    assert bool((seen[0][holes] == 0.5).all())
    assert torch.equal(seen[0][~holes], images[~holes])
