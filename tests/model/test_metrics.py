import numpy as np
import pytest

from model.errors import BadInput
from model.evaluation.metrics import (
    accuracy,
    class_histogram,
    cohen_kappa,
    confusion_matrix,
    mean_interval,
    spearman,
    wilson_interval,
)


def ids(*values):
    return np.array(values, np.int64)


def test_accuracy_is_the_share_of_equal_ids():
    assert accuracy(ids(1, 2, 3, 4), ids(1, 2, 0, 4)) == 0.75
    assert accuracy(ids(), ids()) is None


def test_accuracy_of_different_lengths_is_refused():
    with pytest.raises(BadInput, match="2 and 1 values"):
        accuracy(ids(1, 2), ids(1))


def test_wilson_interval_matches_the_published_example():
    # 8 of 10 at 95 %: 0.4902 to 0.9433 (Brown, Cai and DasGupta's formula worked by hand with z = 1.959964).
    assert wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-5)


def test_wilson_interval_at_the_ends_stays_inside_the_unit_interval():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    # All of n: the lower end is n / (n + z^2).
    assert wilson_interval(5, 5) == pytest.approx((5 / (5 + 1.959964**2), 1.0), abs=1e-6)
    assert wilson_interval(0, 5) == pytest.approx((0.0, 1.959964**2 / (5 + 1.959964**2)), abs=1e-6)


def test_wilson_interval_widens_with_confidence():
    narrow, wide = wilson_interval(5, 10, 0.8), wilson_interval(5, 10, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2), (1, 2, 1.0)])
def test_wilson_interval_of_impossible_counts_is_refused(arguments):
    with pytest.raises(BadInput):
        wilson_interval(*arguments)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (0, 5), (5, 5), (8, 10), (37, 40), (1, 3)])
def test_mean_interval_of_right_and_wrong_answers_is_wilsons(correct, n):
    assert mean_interval(float(correct), float(correct), n) == wilson_interval(correct, n)


def test_mean_interval_is_wilsons_for_as_many_images_as_the_qualities_are_worth():
    # Qualities 1, 0.5, 0.5, 0: mean 0.5, variance 0.125; with one pseudo observation of 0.25: (4 * 0.125 + 0.25) / 5
    # = 0.15, that is 0.6 of 0.25, so that the four are worth 4 / 0.6 images that are right or wrong.
    z, n = 1.959964, 4 / 0.6
    half = z * np.sqrt(0.25 / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert mean_interval(2.0, 1.5, 4) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_mean_interval_of_sums_with_rounding_errors_stays_inside_the_unit_interval():
    total = sum([0.1] * 10)
    low, high = mean_interval(total, sum([0.1**2] * 10), 10)
    assert 0 <= low < 0.1 < high <= 1
    assert mean_interval(3 + 1e-12, 3 + 2e-12, 3)[1] == 1.0


def test_mean_interval_covers_the_mean_of_qualities_as_often_as_it_says():
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        a, b = generator.uniform(0.3, 4, 2)
        qualities = generator.beta(a, b, 30)
        low, high = mean_interval(float(qualities.sum()), float((qualities**2).sum()), 30)
        inside.append(low <= a / (a + b) <= high)
    assert np.mean(inside) >= 0.93


@pytest.mark.parametrize("sums", [(3.0, 3.5, 4), (-1.0, 0.0, 2), (5.0, 5.0, 4), (2.0, 0.9, 4)])
def test_mean_interval_of_impossible_sums_is_refused(sums):
    with pytest.raises(BadInput):
        mean_interval(*sums)


def test_cohen_kappa_matches_a_hand_computed_table():
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: po = 0.7, pe = 0.5 -> 0.4.
    a = np.repeat(ids(7, 7, 2, 2), [20, 5, 10, 15])
    b = np.repeat(ids(7, 2, 7, 2), [20, 5, 10, 15])
    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_cohen_kappa_without_a_choice_is_undefined():
    assert cohen_kappa(ids(), ids()) is None
    assert cohen_kappa(ids(3, 3), ids(3, 3)) is None


def test_spearman_is_one_for_any_rising_relation():
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)


def test_spearman_gives_ties_their_mean_rank():
    # Ranks 1.5, 1.5, 3, 4 against 1, 2, 3.5, 3.5: covariance 4 over the root of 4.5 * 4.5.
    assert spearman(np.array([0.0, 0, 1, 2]), np.array([3.0, 4, 5, 5])) == pytest.approx(4 / 4.5)


def test_spearman_of_a_constant_is_undefined():
    assert spearman(np.ones(3), np.arange(3.0)) is None
    assert spearman(np.ones(1), np.ones(1)) is None


def test_confusion_matrix_has_truth_in_rows():
    assert confusion_matrix(ids(0, 1, 1, 1), ids(0, 1, 0, 0), 2).tolist() == [[1, 2], [0, 1]]


def test_confusion_matrix_of_a_foreign_class_is_refused():
    with pytest.raises(BadInput, match="2 classes"):
        confusion_matrix(ids(0, 2), ids(0, 1), 2)


def test_class_histogram_leaves_out_what_has_no_label():
    assert class_histogram(ids(-1, 2, 2, 0), 4).tolist() == [1, 0, 2, 0]
    with pytest.raises(BadInput, match="3 classes"):
        class_histogram(ids(3), 3)
