"""The feature maps of a pool's images: computed once, and kept on disk where there is a place for them."""

import shutil

from model.data.maps import MapBank, row_bytes
from model.encoders.maps import MapEncoder
from model.errors import BadInput
from model.learners.base import PoolImages
from model.querying.outputs import FloatArray, IntArray

MOST_KEPT = 2 * 1024**3  # bytes of a pool's maps: with EfficientNet-lite0 those of 7,600 images


class PoolMaps:
    """The maps of the views of a pool, by pool index; those of a pool beyond MOST_KEPT are computed every time."""

    def __init__(self, pool: PoolImages, encoder: MapEncoder) -> None:
        """Raise BadInput for a pool without views."""
        if pool.views is None:
            raise BadInput("feature maps are made of images with their aspect kept, which are not there")
        self._views, self._encoder, self._kept = pool.views, encoder, None
        if pool.maps is None:
            return
        if len(pool.bank) * row_bytes(encoder.shapes) <= MOST_KEPT:
            self._kept = MapBank.open_or_create(pool.maps, encoder.name, encoder.shapes)
        else:
            shutil.rmtree(pool.maps, ignore_errors=True)  # of the pool before it grew

    def of(self, indices: IntArray) -> list[FloatArray]:
        """Return the maps of these pool indices, (n, C, H, W) float16 each, coarse last."""
        views = self._views.gather(indices)
        if self._kept is None:
            return self._encoder.maps(views)
        missing = ~self._kept.has(indices, views)
        if missing.any():
            self._kept.write(indices[missing], views[missing], self._encoder.maps(views[missing]))
        return self._kept.gather(indices)
