import numpy as np
import pytest

from model.data.features import FeatureBank
from model.learners.scaling import ScaledFeatures, Scaling


def bank_of(folder, rows, known=None):
    bank = FeatureBank.create(folder, "a", 128, rows.shape[1], rows.shape[1])
    indices = np.arange(len(rows)) if known is None else np.asarray(known)
    bank.write(indices, rows[indices])
    return bank


def test_scaling_is_root_minus_mean_to_length_one(tmp_path):
    # Roots: (2, 3), (4, -1), mean (3, 1): differences (-1, 2) and (1, -2).
    bank = bank_of(tmp_path, np.array([[4, 9], [16, -1]], np.float16))
    scaling = Scaling.of(bank, 2)
    assert scaling.mean.tolist() == [3, 1]
    expected = np.array([[-1, 2], [1, -2]]) / np.sqrt(5)
    np.testing.assert_allclose(scaling.apply(bank.gather(np.arange(2))), expected, rtol=1e-6)


def test_scaling_reads_the_first_columns_only(tmp_path):
    rows = np.array([[4, 9, 1], [16, 1, 100], [0, 4, 9]], np.float16)
    scaled = Scaling.of(bank_of(tmp_path / "all", rows), 2)
    same = Scaling.of(bank_of(tmp_path / "two", rows[:, :2].copy()), 2)
    np.testing.assert_array_equal(scaled.apply(rows), same.apply(rows[:, :2]))


def test_scaling_centres_on_what_is_known(tmp_path):
    rows = np.array([[4.0], [100.0], [16.0]], np.float16)
    assert Scaling.of(bank_of(tmp_path, rows, known=[0, 2]), 1).mean.tolist() == [3]


def test_scaling_of_nothing_and_of_the_mean_itself_stays_finite(tmp_path):
    empty = Scaling.of(FeatureBank.create(tmp_path / "none", "a", 128, 3, 3), 3)
    assert empty.mean.tolist() == [0, 0, 0]
    same = np.full((4, 3), 9, np.float16)
    assert Scaling.of(bank_of(tmp_path / "same", same), 3).apply(same).tolist() == [[0, 0, 0]] * 4


def test_scaling_of_a_large_pool_takes_every_nth_image(tmp_path, monkeypatch):
    monkeypatch.setattr("model.learners.scaling.SAMPLE", 3)
    rows = np.array([[0], [1], [4], [9], [16], [25]], np.float16)
    assert Scaling.of(bank_of(tmp_path, rows), 1).mean.tolist() == [1.5]  # of the roots 0 and 3


def test_scaled_features_stand_in_for_an_array(tmp_path):
    rows = np.random.default_rng(0).gamma(1, 1, (6, 4)).astype(np.float16)
    bank = bank_of(tmp_path, rows, known=[0, 1, 3, 4])
    scaling = Scaling.of(bank, 3)
    scaled = ScaledFeatures(bank, scaling, 8)
    assert (len(scaled), scaled.shape, scaled.dtype) == (8, (8, 3), np.float32)
    expected = np.zeros((5, 3), np.float32)
    expected[[0, 2, 4]] = scaling.apply(rows[[4, 0, 4]])
    np.testing.assert_array_equal(scaled[np.array([4, 2, 0, 7, 4])], expected)
    assert np.linalg.norm(scaled[[0, 1]], axis=1) == pytest.approx(1)
