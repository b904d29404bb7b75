"""Which images look nearly alike, by features whose copies are known."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.features import copies, different

from model.querying.distances import unit_rows
from model.querying.likeness import Likeness


def rng(seed=0):
    return np.random.default_rng(seed)


def alike(features):
    """The pairs (i, j), i < j, that are found."""
    everything = np.arange(len(features))
    x, y = Likeness(features, everything, rng()).pairs(everything, everything)
    return {(i, j) for i, j in zip(x.tolist(), y.tolist(), strict=True) if i < j}


@pytest.mark.parametrize("dimension", [8, 12, 20])
@pytest.mark.parametrize("n", [100, 1500])
def test_different_images_are_not_alike(n, dimension):
    assert len(alike(different(n, dimension))) <= 1  # one in ten thousand is expected


def test_digits_by_different_hands_are_not_alike():
    pixels = load_digits().data
    assert alike(unit_rows(pixels - pixels.mean(axis=0))) == set()


@pytest.mark.parametrize("of_each", [2, 4, 10])
@pytest.mark.parametrize("dimension", [8, 16])
def test_bursts_are_found_whatever_their_length(of_each, dimension):
    originals = different(600 // of_each, dimension)
    features = np.concatenate([copies(originals, seed=number) for number in range(of_each)])
    source = np.tile(np.arange(len(originals)), of_each)
    found = alike(features)
    assert all(source[i] == source[j] for i, j in found)
    pairs = len(originals) * of_each * (of_each - 1) // 2
    assert len(found) > 0.9 * pairs


def test_a_few_copies_in_a_large_pool_are_found():
    originals = different(3000)
    features = np.concatenate([originals, copies(originals[:20])])
    found = alike(features)
    assert found >= {(i, 3000 + i) for i in range(20)}
    assert len(found) <= 21


def test_what_is_near_in_a_large_pool_is_nearer():
    small, large = different(500), different(4000)
    reaches = [np.median(Likeness(pool, np.arange(len(pool)), rng()).reach(np.arange(100))) for pool in (small, large)]
    assert reaches[1] < reaches[0]


def test_nothing_is_alike_in_a_pool_that_is_too_small_to_tell():
    rows = different(30)
    assert alike(np.concatenate([rows, rows])) == set()


def test_equal_images_are_alike_and_none_is_like_itself():
    rows = different(200)
    features = np.concatenate([rows, rows[:5]])
    assert alike(features) >= {(i, 200 + i) for i in range(5)}
    everything = np.arange(205)
    x, y = Likeness(features, everything, rng()).pairs(everything, everything)
    assert (x != y).all()


def test_a_pool_of_one_picture_is_no_error():
    features = np.repeat(different(1), 100, axis=0)
    everything = np.arange(100)
    likeness = Likeness(features, everything, rng())
    assert np.isfinite(likeness.reach(everything)).all()


def test_images_are_compared_in_parts(monkeypatch):
    originals = different(300)
    features = np.concatenate([originals, copies(originals)])
    whole = alike(features)
    monkeypatch.setattr("model.querying.likeness.AT_ONCE", 7)
    assert alike(features) == whole
