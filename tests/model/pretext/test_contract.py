"""What every pretext task keeps to, over the registry."""

import copy

import numpy as np
import pytest
import torch
from support.images import bank_of

from model.data.bank import ImageBank
from model.errors import BadInput
from model.networks.backbones import build_backbone
from model.pretext.colorization import as_grey
from model.pretext.colour_space import rgb_to_lab
from model.pretext.registry import PRETEXT_TASKS, pretext_task
from model.pretext.run import extract_embeddings, extract_losses, train_pretext
from model.querying.outputs import FEATURES
from model.training.loop import Plan, train

CPU = torch.device("cpu")
ALONE = {"simclr", "barlow_twins"}  # cannot train on a single image


def pictures(n, side=16, seed=0):
    """Return coloured ramps of random slope with a little noise: (n, 3, side, side) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    down, right = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    slope = torch.rand(n, 3, 2, generator=generator) * 0.6 - 0.2
    ramps = slope[..., :1, None] * down + slope[..., 1:, None] * right
    return (0.5 + ramps + 0.05 * torch.randn(n, 3, side, side, generator=generator)).clamp(0, 1)


def as_bytes(images):
    return (images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)


def built(name, side=16, network="compact"):
    task = pretext_task(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = task.build(build_backbone(network, side, seed=0))
    return task, net.to(memory_format=torch.channels_last)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def trained_a_step(name):
    """Return a task and its network in eval mode, after a step has left something in its memory."""
    task, net = built(name)
    with torch.no_grad():
        task.loss(net, pictures(8, seed=3), draw())
    return task, net.eval()


def test_registry_names_the_tasks_of_the_method():
    assert set(PRETEXT_TASKS) == {
        "rotation", "colorization", "jigsaw", "simsiam", "simclr", "barlow_twins", "inpainting", "vae",
    }  # fmt: skip
    assert all(pretext_task(name).name == info.name == name for name, info in PRETEXT_TASKS.items())


@pytest.mark.parametrize("name", PRETEXT_TASKS)
@pytest.mark.parametrize(("n", "side"), [(2, 16), (3, 31), (2, 64), (2, 96)])
def test_loss_is_one_finite_number_an_image_and_reaches_the_backbone(name, n, side):
    task, net = built(name, side)
    loss = task.loss(net, pictures(n, side), draw())
    assert (loss.shape, loss.dtype) == ((n,), torch.float32)
    assert bool(loss.isfinite().all())
    loss.mean().backward()
    first = next(iter(net.backbone.parameters()))
    assert bool(first.grad.isfinite().all())
    assert float(first.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_loss_passes_through_resnet18(name):
    task, net = built(name, 16, "resnet18")
    with torch.inference_mode():
        assert bool(task.loss(net.eval(), pictures(2), draw()).isfinite().all())


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_training_on_one_image_works_or_says_why_not(name):
    task, net = built(name)
    if name in ALONE:
        with pytest.raises(BadInput, match="at least 2 images"):
            task.loss(net, pictures(1), draw())
    else:
        assert bool(task.loss(net, pictures(1), draw()).isfinite().all())


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_loss_of_blank_pictures_is_finite_and_so_is_its_gradient(name):
    task, net = built(name)
    task.loss(net, torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)]), draw()).mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_training_loss_follows_its_generator(name):
    task, net = built(name)
    first, again, other = (task.loss(copy.deepcopy(net), pictures(4), draw(seed)).detach() for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert task.needs_generator is not torch.equal(first, other)


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_extraction_repeats_whatever_the_global_generator(name):
    task, net = trained_a_step(name)
    with torch.inference_mode():
        first = task.loss(net, pictures(6), draw(1))
        torch.rand(5)
        assert torch.equal(first, task.loss(net, pictures(6), draw(1)))


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_extraction_leaves_no_trace(name):
    task, net = trained_a_step(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    hooks = [len(part._forward_pre_hooks) for part in net.modules()]
    with torch.inference_mode():
        task.loss(net, pictures(6), draw())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [len(part._forward_pre_hooks) for part in net.modules()] == hooks


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_extracted_loss_of_an_image_does_not_depend_on_its_neighbours(name):
    task, net = trained_a_step(name)
    images = pictures(6)
    others = torch.cat([images[:3], torch.zeros(3, 3, 16, 16)])
    with torch.inference_mode():
        one, two = (task.loss(net, part, draw(1))[:3] for part in (images, others))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_loss_under_autocast_is_float32_and_close(name):
    task, net = built(name)
    exact = task.loss(copy.deepcopy(net), pictures(8), draw()).detach()
    with torch.autocast("cpu", torch.bfloat16):
        quick = task.loss(net, pictures(8), draw())
    assert quick.dtype == torch.float32
    quick.mean().backward()
    torch.testing.assert_close(quick.detach().mean(), exact.mean(), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_state_holds_the_backbone_under_its_prefix(name):
    task, net = built(name)
    keys = {task.backbone_prefix + key for key in build_backbone("compact", 16, seed=0).state_dict()}
    assert {key for key in net.state_dict() if key.startswith(task.backbone_prefix)} == keys


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_check_takes_coloured_pictures_and_an_empty_bank(tmp_path, name):
    pretext_task(name).check(ImageBank.create(tmp_path / "empty", 16))
    pretext_task(name).check(bank_of(tmp_path / "bank", as_bytes(pictures(4))))


@pytest.mark.parametrize("name", sorted(set(PRETEXT_TASKS) - {"colorization"}))
def test_grey_pictures_have_losses(name):
    task, net = built(name)
    loss = task.loss(net, pictures(4)[:, :1].expand(-1, 3, -1, -1), draw())
    assert bool(loss.isfinite().all())


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_training_lowers_the_loss(name, tmp_path):
    task, net = built(name)
    images, losses = pictures(48), []

    class Recorded:
        def loss(self, positions, generator, done):
            loss = task.loss(net, images[positions], generator).mean()
            losses.append(float(loss.detach()))
            return loss

    train(net, Recorded(), 48, Plan(10, 24, lr=0.05), checkpoint=tmp_path / "c.pt", identity={}, seed=0, device=CPU)
    assert np.mean(losses[-4:]) < 0.97 * np.mean(losses[:4])


@pytest.mark.parametrize("name", sorted(set(PRETEXT_TASKS) - {"rotation"}))
def test_trained_weights_score_a_bank_group_by_group(name, tmp_path):
    """The whole way: training, weights on disk, and losses that do not depend on place, draw, or where one cuts."""
    bank = bank_of(tmp_path / "bank", as_bytes(torch.cat([pictures(65), pictures(65)[:5]])))
    summary = train_pretext(name, bank, out=tmp_path / "w.pt", checkpoint=tmp_path / "c.pt", epochs=1, device="cpu")
    assert (summary.accuracy is None) is (name != "jigsaw")
    whole = extract_losses(bank, tmp_path / "w.pt", device="cpu")
    later = extract_losses(bank, tmp_path / "w.pt", start=66, device="cpu")
    np.testing.assert_array_equal(later, whole[66:])
    np.testing.assert_allclose(whole[65:], whole[:5], rtol=1e-3, err_msg="copies have the same loss")
    assert len(np.unique(whole)) > 60


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_embeddings_are_one_row_an_image_whatever_its_neighbours(name):
    task, net = trained_a_step(name)
    with torch.inference_mode():
        embedded = task.embed(net, pictures(5))
        alone = torch.cat([task.embed(net, image.unsqueeze(0)) for image in pictures(5)])
    assert embedded.shape == (5, net.backbone.dim)
    torch.testing.assert_close(embedded, alone, rtol=1e-3, atol=1e-4)
    assert float((embedded[0] - embedded[1]).abs().max()) > 0


def test_colorization_embeds_the_lightness_it_was_trained_on():
    task, net = trained_a_step("colorization")
    images = pictures(4)
    lightness = as_grey(rgb_to_lab(images)[:, :1] / 100)
    with torch.inference_mode():
        assert torch.equal(task.embed(net, images), net.backbone(lightness))
        assert not torch.equal(task.embed(net, images), net.backbone(images))


def test_extracted_embeddings_go_on_where_others_ended(tmp_path):
    bank = bank_of(tmp_path / "bank", as_bytes(pictures(70)))
    train_pretext("rotation", bank, out=tmp_path / "w.pt", checkpoint=tmp_path / "c.pt", epochs=1, device="cpu")
    whole = extract_embeddings(bank, tmp_path / "w.pt", device="cpu")
    assert (whole.shape, whole.dtype) == ((70, 256), FEATURES)
    later = extract_embeddings(bank, tmp_path / "w.pt", start=66, device="cpu")
    np.testing.assert_allclose(later, whole[66:], rtol=2e-3, atol=2e-4)
    assert extract_embeddings(bank, tmp_path / "w.pt", start=70, device="cpu").shape == (0, 256)
    with pytest.raises(BadInput, match="image 71 is not in a bank of 70"):
        extract_embeddings(bank, tmp_path / "w.pt", start=71, device="cpu")
