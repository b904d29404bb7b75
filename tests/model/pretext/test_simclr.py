import numpy as np
import pytest
import torch

from model.data.augment import Augmentation, augment
from model.networks.backbones import build_backbone
from model.pretext.simclr import REFERENCES, TEMPERATURE, SimClr, against_references, nt_xent
from model.pretext.views import blur, jitter, luma


def unit(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture
def net():
    return SimClr().build(build_backbone("compact", 16, seed=0))


def test_nt_xent_is_equation_1():
    z = unit(6, 5)  # views 0 to 2, then their partners
    expected = np.zeros(3)
    for i in range(6):
        partner = (i + 3) % 6
        others = sum(np.exp(z[i] @ z[k] / TEMPERATURE) for k in range(6) if k != i)
        expected[i % 3] -= np.log(np.exp(z[i] @ z[partner] / TEMPERATURE) / others) / 2
    np.testing.assert_allclose(nt_xent(torch.from_numpy(z)).numpy(), expected, rtol=1e-10)


def test_training_loss_is_nt_xent_of_two_views(net, monkeypatch):
    images = torch.rand(4, 3, 16, 16)
    monkeypatch.setattr("model.pretext.simclr.distort", lambda pictures, _: pictures)  # both views alike
    net.eval()
    with torch.inference_mode():
        z = net(images).numpy()
    net.training = True  # the task trains, batch normalisation does not
    expected = []
    for i in range(4):
        others = sum(np.exp(z[i] @ z[k] / TEMPERATURE) for k in range(4) if k != i)
        same = np.exp(1 / TEMPERATURE)
        expected.append(-np.log(same / (2 * others + same)))
    loss = SimClr().loss(net, images, torch.Generator()).detach()
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-4)


def test_extracted_loss_is_the_mean_over_four_variants(net):
    images = torch.rand(3, 3, 16, 16)
    images[2] = luma(images)[2]
    net.eval()
    with torch.inference_mode():
        loss = SimClr().loss(net, images, torch.Generator().manual_seed(1)).numpy()
        jittered = jitter(images, torch.ones(3), torch.Generator().manual_seed(1))
        variants = [images.flip(3), blur(images, torch.ones(3)), jittered, luma(images)]
        anchor, *embedded = (net(part).numpy() for part in (images, *variants))
    references = net.references.numpy()
    for i in range(3):
        negatives = sum(np.exp(anchor[i] @ reference / TEMPERATURE) for reference in references)
        of_variant = []
        for z in embedded:
            positive = np.exp(anchor[i] @ z[i] / TEMPERATURE)
            of_variant.append(-np.log(positive / (positive + negatives)))
        expected = np.mean(of_variant[:3] if i == 2 else of_variant)  # the grey image has no greyed variant
        assert float(loss[i]) == pytest.approx(float(expected), rel=1e-4)


def test_left_out_references_are_counted_by_the_others():
    anchor, variants, references = unit(2, 4), unit(1, 2, 4, seed=1), unit(6, 4, seed=2)
    others = np.ones((2, 6), bool)
    others[0, :4] = False
    loss = against_references(*(torch.from_numpy(part) for part in (anchor, variants, references, others)))
    for row in range(2):
        positive = np.exp(anchor[row] @ variants[0, row] / TEMPERATURE)
        negative = 6 * np.mean(np.exp(references[others[row]] @ anchor[row] / TEMPERATURE))
        assert float(loss[0, row]) == pytest.approx(np.log(positive + negative) - np.log(positive))


def test_an_image_without_any_other_has_no_loss():
    z = torch.from_numpy(unit(1, 4))
    loss = against_references(z, z.unsqueeze(0), z, torch.zeros(1, 1, dtype=torch.bool))
    assert float(loss) == 0


def test_training_remembers_its_last_images_and_knows_them_again(net):
    images = torch.rand(8, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    shifted = augment(images, Augmentation(shift=0.07), torch.Generator())
    for _ in range(REFERENCES // 16):
        SimClr().loss(net, images, torch.Generator())
        SimClr().loss(net, shifted, torch.Generator())
    SimClr().loss(net, images, torch.Generator())
    assert int(net.cursor) == 8
    others = net.others(torch.cat([images[:1], torch.rand(1, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)]))
    assert others.sum(dim=1).tolist() == [REFERENCES - REFERENCES // 8, REFERENCES]
    torch.testing.assert_close(net.references.norm(dim=1), torch.ones(REFERENCES))


def test_references_that_are_not_filled_are_others(net):
    images = torch.rand(8, 3, 16, 16)
    assert bool(net.others(images).all())
    SimClr().loss(net, images, torch.Generator())
    assert torch.equal(net.others(images)[:, :8], ~torch.eye(8, dtype=torch.bool))
    assert bool(net.others(images)[:, 8:].all())


def test_a_minibatch_larger_than_the_memory_leaves_its_end(net):
    embedded = torch.from_numpy(unit(REFERENCES + 3, 128)).float()
    net.remember(embedded, torch.rand(REFERENCES + 3, 3, 4, 4))
    assert {tuple(row) for row in net.references.tolist()} == {tuple(row) for row in embedded[3:].tolist()}
