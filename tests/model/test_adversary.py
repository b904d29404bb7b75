import numpy as np
import torch

from model.learners.vaal import LATENT, _Networks, _Scale, autoencoder_loss, labeled_probability

CPU = torch.device("cpu")


def features(n, seed=0):
    """Return features of two groups, and which images are of the second."""
    generator = np.random.default_rng(seed)
    second = generator.random(n) < 0.5
    x = generator.normal(size=(n, 12)).astype(np.float32)
    x[second, :4] += 4
    return x, second


def test_images_unlike_everything_labeled_look_unlabeled():
    x, second = features(300)
    labeled = np.flatnonzero(~second)[:60]
    found = labeled_probability(x, labeled, seed=0, device=CPU)
    assert found.shape == (300,)
    assert ((found >= 0) & (found <= 1)).all()
    rest = np.setdiff1d(np.arange(300), labeled)
    assert found[rest][second[rest]].mean() < found[rest][~second[rest]].mean()


def test_labeledness_is_repeated_by_its_seed_and_touches_no_global_state():
    x, _ = features(80)
    state = torch.random.get_rng_state()
    first, again = (labeled_probability(x, np.arange(10), seed=3, device=CPU) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not np.array_equal(first, labeled_probability(x, np.arange(10), seed=4, device=CPU))


def test_nothing_and_everything_labeled_give_no_order():
    x, _ = features(20)
    for labeled in (np.empty(0, np.int64), np.arange(20)):
        assert labeled_probability(x, labeled, seed=0, device=CPU).tolist() == [0.5] * 20


def test_features_that_do_not_vary_do_no_harm():
    assert np.isfinite(labeled_probability(np.ones((30, 4), np.float32), np.arange(5), seed=0, device=CPU)).all()


def test_a_rank_is_told_to_decoder_and_discriminator_but_not_to_the_encoder():
    networks = _Networks(12, 1)
    widths = [networks.autoencoder.encoder[0], networks.autoencoder.decoder[0], networks.discriminator[0]]
    assert [layer.in_features for layer in widths] == [12, LATENT + 1, LATENT + 1]
    x, _ = features(30)
    ranks = np.linspace(0, 1, 30)
    rows = _Scale(x, ranks)(np.arange(30))
    assert torch.equal(rows[:, -1], torch.from_numpy(ranks).float())
    code = networks.autoencoder.code(rows)
    changed = rows.clone()
    changed[:, -1] = 0.5
    other = networks.autoencoder.code(changed)
    assert torch.equal(code[:, :LATENT], other[:, :LATENT])
    assert torch.equal(code[:, -1], rows[:, -1])
    draw = torch.Generator
    loss, without = (
        autoencoder_loss(networks.autoencoder, networks.discriminator, part, draw().manual_seed(0))
        for part in (rows, changed)
    )
    assert float(loss.detach()) != float(without.detach())


def test_a_rank_that_tells_the_labeled_images_apart_is_learned():
    x, _ = features(300)
    labeled = np.arange(60)
    ranks = np.where(np.arange(300) < 180, 0.0, 1.0)  # the features say nothing of it
    found = labeled_probability(x, labeled, seed=0, device=CPU, ranks=ranks)
    assert found[180:].mean() + 0.2 < found[60:180].mean()
