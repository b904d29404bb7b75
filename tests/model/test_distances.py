import numpy as np
import pytest

from model.querying import distances
from model.querying.distances import blocks, neighbours, to_nearest, unit_rows


@pytest.fixture(params=[1 << 22, 7])
def block_size(request, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", request.param)


def points(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 4))


@pytest.mark.usefixtures("block_size")
def test_blocks_cover_all_pairs():
    x, y = points(9, 0), points(5, 1)
    table = np.concatenate([squared for _, squared in blocks(x, y)])
    assert table == pytest.approx(((x[:, None] - y) ** 2).sum(axis=2))


@pytest.mark.usefixtures("block_size")
def test_to_nearest_is_the_smallest_distance():
    x, y = points(9, 0), points(5, 1)
    assert to_nearest(x, y) == pytest.approx(((x[:, None] - y) ** 2).sum(axis=2).min(axis=1))
    assert np.isinf(to_nearest(x, y[:0])).all()


@pytest.mark.usefixtures("block_size")
def test_neighbours_are_the_nearest_others():
    x = points(12, 2)
    table = np.linalg.norm(x[:, None] - x, axis=2)
    np.fill_diagonal(table, np.inf)
    indices, found = neighbours(x, 3)
    assert np.sort(indices, axis=1).tolist() == np.sort(np.argsort(table, axis=1)[:, :3], axis=1).tolist()
    assert np.sort(found, axis=1) == pytest.approx(np.sort(table, axis=1)[:, :3])


def test_unit_rows_have_length_one_and_zeros_stay():
    assert unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0]]
