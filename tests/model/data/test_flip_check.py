import numpy as np
import pytest

from model.data.flip_check import LIMIT, mirror_changes_class, mirror_share


def test_mirror_share_is_high_for_digits():
    from sklearn.datasets import load_digits

    grey = (load_digits().images * 15.9375).astype(np.uint8)
    assert mirror_share(np.repeat(grey[..., None], 3, axis=3)) > 0.9


def test_mirror_share_is_half_where_every_picture_may_be_mirrored():
    from sklearn.datasets import load_digits

    grey = (load_digits().images[:1000] * 15.9375).astype(np.uint8)
    mirrored = np.random.default_rng(0).permutation(1000)[:500]
    grey[mirrored] = grey[mirrored][:, :, ::-1]
    assert mirror_share(np.repeat(grey[..., None], 3, axis=3)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("n", [1, 2])
def test_mirror_share_of_next_to_nothing_does_not_forbid_mirroring(n):
    assert mirror_share(np.zeros((n, 16, 16, 3), np.uint8)) == 0.5 < LIMIT


def arrows(n, seed=0):
    """Return noisy arrows to the left (class 0) and to the right (class 1)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    images = generator.integers(0, 60, (n, 16, 16, 3))
    for image, label in zip(images, labels, strict=True):
        image[:, 8 * label : 8 * label + 8] += 150
    return images.astype(np.uint8), labels


@pytest.mark.parametrize("n", [16, 300])
def test_mirror_changes_class_of_arrows(n):
    images, labels = arrows(n)
    assert mirror_changes_class(images, labels)


def test_mirror_does_not_change_classes_that_do_not_depend_on_the_side():
    images, _ = arrows(300)
    labels = np.random.default_rng(1).integers(0, 2, 300)
    bright = np.where(labels[:, None, None, None] == 1, images // 2 + 100, images // 2).astype(np.uint8)
    assert not mirror_changes_class(bright, labels)
    assert not mirror_changes_class(images, labels)  # labels at random: no neighbour tells anything


@pytest.mark.parametrize("n", [1, 3])
def test_mirror_changes_class_says_nothing_from_a_few_labels(n):
    images, labels = arrows(n)
    assert not mirror_changes_class(images, labels)
