import numpy as np
import pytest

from model.data.atomic_files import save_array
from model.errors import UnknownName
from model.lab.experiment import draw_pool, pretext_of


def rng(seed=0):
    return np.random.default_rng(seed)


def test_draw_pool_takes_distinct_images_in_order():
    chosen = draw_pool(np.zeros(50, np.int64), 20, rng())
    assert len(chosen) == 20
    assert (np.diff(chosen) > 0).all()


def test_draw_pool_without_a_size_takes_everything():
    assert draw_pool(np.zeros(5, np.int64), None, rng()).tolist() == [0, 1, 2, 3, 4]


def test_draw_pool_differs_between_seeds():
    labels = np.zeros(100, np.int64)
    assert draw_pool(labels, 20, rng(0)).tolist() != draw_pool(labels, 20, rng(1)).tolist()


def test_draw_pool_imbalanced_is_the_ramp_of_the_paper():
    labels = np.repeat(np.arange(10), 5000)
    counts = np.bincount(labels[draw_pool(labels, None, rng(), imbalance="ramp")])
    assert counts.tolist() == [500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000]


def test_draw_pool_imbalanced_keeps_the_ramp_at_a_smaller_size():
    labels = np.repeat(np.arange(10), 5000)
    counts = np.bincount(labels[draw_pool(labels, 550, rng(), imbalance="ramp")])
    assert counts.tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_draw_pool_imbalanced_asks_no_class_for_more_than_it_has():
    labels = np.repeat([0, 1], [100, 30])
    assert np.bincount(labels[draw_pool(labels, None, rng(), imbalance="ramp")]).tolist() == [3, 30]


def test_draw_pool_with_a_long_tail_falls_by_one_factor_to_a_fiftieth():
    labels = np.repeat(np.arange(10), 5000)
    counts = np.bincount(labels[draw_pool(labels, None, rng(), imbalance="long_tail")])
    assert (counts[0], counts[-1]) == (5000, 100)  # Cui et al. 2019 at a factor of 50
    assert counts.tolist() == [int(5000 * 50 ** (-c / 9) + 1e-6) for c in range(10)]
    few = np.bincount(labels[draw_pool(labels, 500, rng(), imbalance="long_tail")])
    assert 490 < few.sum() <= 500
    assert few[:-1] / few[1:] == pytest.approx(50 ** (1 / 9), rel=0.25)


def test_save_array_replaces_a_file_as_a_whole(tmp_path):
    path = tmp_path / "a.npy"
    save_array(path, np.arange(3))
    save_array(path, np.arange(4))
    assert np.load(path).tolist() == [0, 1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_pretext_of_splits_task_and_recipe():
    assert pretext_of("rotation") == ("rotation", None)
    assert pretext_of("jigsaw@paper") == ("jigsaw", "paper")


@pytest.mark.parametrize("name", ["origami", "rotation@napkin"])
def test_pretext_of_refuses_what_it_does_not_know(name):
    with pytest.raises(UnknownName, match=name.rpartition("@")[2]):
        pretext_of(name)
