"""Feature maps of a pool: computed once, and never those of another picture, another encoder or a damaged file."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.images import bank_of, noise

from model.data.maps import MapBank, checksums, row_bytes
from model.data.views import ViewBank
from model.errors import BadInput
from model.learners import kept_maps
from model.learners.base import PoolImages
from model.learners.kept_maps import PoolMaps

SIDE, IMAGES = 8, 4
SHAPES = ((3, SIDE, SIDE), (1, 2, 2))
EVERYTHING = np.arange(IMAGES)


class Counted:
    """An encoder whose maps are the picture and its corner, that counts the images it was given."""

    name, shapes = "counted", SHAPES

    def __init__(self):
        self.images = 0

    def maps(self, views):
        self.images += len(views)
        planes = views.transpose(0, 3, 1, 2).astype(np.float16)
        return [planes, planes[:, :1, :2, :2]]


@pytest.fixture
def pool(tmp_path):
    views = ViewBank.create(tmp_path / "views", SIDE)
    views.write(EVERYTHING, noise(IMAGES, SIDE), np.full((IMAGES, 2), SIDE))
    return PoolImages(bank_of(tmp_path / "bank", noise(IMAGES, SIDE)), views=views, maps=tmp_path / "maps")


def right(pool, maps, indices=EVERYTHING):
    views = pool.views.gather(indices)
    return all((own == made).all() for own, made in zip(maps.of(indices), Counted().maps(views), strict=True))


def test_maps_are_computed_once(pool):
    encoder = Counted()
    assert right(pool, PoolMaps(pool, encoder), np.array([2, 0]))
    assert encoder.images == 2
    assert right(pool, PoolMaps(pool, encoder))
    assert right(pool, PoolMaps(pool, encoder), np.array([3, 1, 1]))
    assert encoder.images == IMAGES


def test_another_picture_in_the_same_place_is_computed_anew(pool):
    encoder = Counted()
    maps = PoolMaps(pool, encoder)
    maps.of(EVERYTHING)
    pool.views.write(np.array([1]), noise(1, SIDE, seed=7), np.array([[SIDE, SIDE]]))
    assert right(pool, maps)
    assert encoder.images == IMAGES + 1


@pytest.mark.parametrize("harm", ["another encoder", "other shapes", "cut off", "no header", "another header"])
def test_what_is_not_of_this_encoder_or_damaged_is_begun_anew(pool, harm):
    PoolMaps(pool, Counted()).of(EVERYTHING)
    encoder = Counted()
    if harm == "another encoder":
        encoder.name = "other"
    elif harm == "other shapes":
        MapBank.open_or_create(pool.maps, encoder.name, SHAPES[:1])
    elif harm == "cut off":
        (pool.maps / "map0.bin").write_bytes(b"1")
    elif harm == "no header":
        (pool.maps / "maps.json").unlink()
    else:
        (pool.maps / "maps.json").write_text('{"format": 1, "encoder": 3}')
    assert right(pool, PoolMaps(pool, encoder))
    assert encoder.images == IMAGES


def test_maps_of_a_pool_that_is_too_large_are_not_kept(pool, monkeypatch):
    PoolMaps(pool, Counted()).of(EVERYTHING)
    monkeypatch.setattr(kept_maps, "MOST_KEPT", IMAGES * row_bytes(SHAPES) - 1)
    assert right(pool, PoolMaps(pool, Counted()))
    assert not pool.maps.exists()


def test_a_pool_without_a_place_for_maps_has_them_computed(pool):
    encoder = Counted()
    maps = PoolMaps(PoolImages(pool.bank, views=pool.views), encoder)
    assert right(pool, maps)
    assert right(pool, maps)
    assert encoder.images == 2 * IMAGES
    with pytest.raises(BadInput, match="aspect"):
        PoolMaps(PoolImages(pool.bank), SimpleNamespace())


def test_checksums_differ_where_views_do():
    views = noise(3, SIDE)
    views[2] = views[0]
    first, second, third = checksums(views).tolist()
    assert first == third != second
