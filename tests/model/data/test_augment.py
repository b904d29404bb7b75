import numpy as np
import pytest
import torch

from model.data.augment import NONE, Augmentation, augment


def images(n=64, side=16, seed=0):
    pixels = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return pixels.contiguous(memory_format=torch.channels_last)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_augment_without_anything_to_do_returns_the_images():
    assert torch.equal(augment(images(), NONE, generator()), images())


def test_flip_mirrors_some_images_and_leaves_the_others():
    before = images()
    after = augment(before, Augmentation(flip=True), generator())
    same = (after - before).abs().amax(dim=(1, 2, 3)) < 1e-5
    mirrored = (after - before.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert (same ^ mirrored).all()
    assert 16 <= int(mirrored.sum()) <= 48


def test_shift_moves_whole_pixels_and_reflects_at_the_edge():
    before = images(n=200, side=8)
    after = augment(before, Augmentation(shift=0.25), generator())
    padded = torch.from_numpy(np.pad(before.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="symmetric"))
    moves = [padded[:, :, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
    errors = torch.stack([(after - move).abs().amax(dim=(1, 2, 3)) for move in moves])
    assert errors.amin(dim=0).max() < 1e-4
    assert len(errors.argmin(dim=0).unique()) == 25


def test_shift_takes_every_step_equally_often():
    ramp = torch.arange(8.0).expand(4000, 3, 8, 8) / 16
    after = augment(ramp, Augmentation(shift=0.25), generator())
    steps = torch.round((after[:, 0, 4, 4] - ramp[0, 0, 4, 4]) * 16).int()
    counts = torch.bincount(steps + 2)
    assert counts.sum() == 4000
    assert (counts - 800).abs().max() < 120  # five of them; a standard deviation is 25


def test_shift_shows_black_beyond_the_edge_where_that_is_wanted():
    white = torch.ones(200, 3, 8, 8)
    after = augment(white, Augmentation(shift=0.25, edge="zeros"), generator())
    values = torch.round(after * 1e4) / 1e4
    assert values.unique().tolist() == [0.0, 1.0]
    assert int(values[:, 0].sum(dim=(1, 2)).min()) == 36  # two rows and two columns are gone at most


def test_augment_is_as_exact_under_autocast():
    how = Augmentation(flip=True, shift=0.125, zoom=0.6)
    exact = augment(images(), how, generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(images(), how, generator()), exact)


def test_zoom_shows_a_part_of_the_picture():
    ramp = torch.linspace(0, 1, 32).expand(100, 3, 32, 32)
    after = augment(ramp, Augmentation(zoom=0.5), generator())
    span = after[:, 0, 16].amax(dim=1) - after[:, 0, 16].amin(dim=1)
    assert 0.35 < span.min() < 0.65
    assert span.max() <= 1.0


def test_colour_keeps_the_range_and_changes_each_image_by_its_own():
    before = torch.full((50, 3, 4, 4), 0.5)
    after = augment(before, Augmentation(colour=0.4), generator())
    assert 0.25 < after.min() < after.max() < 0.75
    assert len(after[:, 0, 0, 0].unique()) == 50


def test_erase_greys_out_a_square_of_at_most_that_side():
    before = torch.ones(300, 3, 16, 16)
    erased = (augment(before, Augmentation(erase=0.5), generator()) == 0.5)[:, 0].sum(dim=(1, 2))
    assert int(erased.max()) == 64
    assert int(erased.min()) >= 16  # a centre in the corner leaves a quarter


def test_augment_repeats_with_its_generator():
    how = Augmentation(flip=True, shift=0.1, zoom=0.7, colour=0.2, erase=0.3)
    first, second = (augment(images(), how, generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(images(), how, generator(6)))


def test_augment_keeps_channels_last():
    for how in (Augmentation(flip=True), Augmentation(colour=0.2), Augmentation(erase=0.3)):
        assert augment(images(), how, generator()).is_contiguous(memory_format=torch.channels_last)


def test_a_resized_crop_has_the_areas_and_ratios_of_torchvisions():
    """Read off a ramp: its slope after the crop is the width of the part, its mean the place."""
    from torchvision.transforms import RandomResizedCrop

    side, n = 64, 3000
    ramp = torch.arange(side) / side
    pictures = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.zeros(side, side)])
    cropped = augment(pictures.expand(n, 3, side, side), Augmentation(area=0.08), generator())
    width = (cropped[:, 0, 32, 48] - cropped[:, 0, 32, 16]) * 2
    height = (cropped[:, 1, 48, 32] - cropped[:, 1, 16, 32]) * 2
    torch.manual_seed(0)
    boxes = [RandomResizedCrop.get_params(pictures, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(n)]
    theirs = torch.tensor(boxes).float() / side
    for ours, expected in (
        (width, theirs[:, 3]),
        (height, theirs[:, 2]),
        (width * height, theirs[:, 2] * theirs[:, 3]),
    ):
        assert torch.quantile(ours, torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx(
            torch.quantile(expected, torch.tensor([0.1, 0.5, 0.9])).tolist(), abs=0.04
        )
    left = cropped[:, 0].amin(dim=(1, 2))
    assert float(left.mean()) == pytest.approx(float(theirs[:, 1].mean()), abs=0.03)
    assert 0 <= float(cropped.min()) <= float(cropped.max()) < 1


def test_a_resized_crop_mirrors_half_of_the_images():
    ramp = (torch.arange(32) / 32).expand(400, 3, 32, 32)
    cropped = augment(ramp, Augmentation(area=0.5, flip=True), generator())
    assert 150 < int((cropped[:, 0, 16, 24] < cropped[:, 0, 16, 8]).sum()) < 250
