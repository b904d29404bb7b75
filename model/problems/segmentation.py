"""A class for each pixel, or none. A target is a mask (``model.data.masks``)."""

from collections.abc import Sequence

import numpy as np

from model.data.letterbox import Letterbox
from model.data.masks import (
    BACKGROUND,
    IGNORED,
    MOST_CLASSES,
    Pixels,
    fitted,
    is_mask,
    nothing,
    pack,
    resized,
    scaled_down,
    size_of,
    unpack,
)
from model.errors import BadInput
from model.evaluation.pixels import Counts, count_pixels, mean_iou
from model.problems.base import COMMON_OUTPUTS, Decoding, Encoded, Prediction, Problem, Target
from model.querying.outputs import FloatArray, IntArray, Outputs

VIEW = 320  # pixels of the view's side
GRID = VIEW // 2  # pixels of the side at which masks are learned and kept: what is finer, the decoder cannot tell
MEASURED = 512  # pixels of the longer side at which masks are compared, at most

# Columns of the output ``values``, each of an image's content alone.
TOP, MARGIN, ENTROPY, LEAST, EXPECTED = range(5)
COLUMNS = 5


class Segmentation(Problem):
    """Encoded targets are (n, GRID, GRID) uint8: letterboxed class ids, see ``model.data.masks``.

    Of a pool are kept ``class_maps``, the class of the highest posterior of each pixel, IGNORED outside of the image
    or where a model has not seen it, and ``values`` (N, COLUMNS): the means over the pixels of the highest posterior,
    of its distance to the second and of the entropy (0 to 1), the mean highest posterior of the least certain tenth of
    the pixels, and the expected mean intersection over union.
    """

    name = "segmentation"
    metric = "miou"
    base_outputs = ("class_maps", "values")
    outputs = COMMON_OUTPUTS | {"class_maps", "values", "places", "margin", "entropy", "doubtful_part"}
    learners = ("decoder",)
    sampler = "region_herding"
    view_side = VIEW
    overlay = "masks"
    round_size, holdout_share = 8, 0.2  # each answer takes long, and says a lot
    pretext = "colorization"  # PT4AL's for segmentation
    figures = ("curve", "losses", "balance", "pixels", "pixel_confusion", "reliability", "map")

    def fits(self, target: Target, classes: Sequence[str]) -> bool:
        """Tell whether the target is a mask of these classes."""
        return is_mask(target) and set(target["classes"]) <= set(classes)

    def merge(self, votes: Sequence[Target]) -> Target | None:
        """Return the majority of each pixel; pixels without one are ignored. None where no pixel has one.

        All votes are brought to the size of the first that has one.
        """
        if len(votes) == 1:
            return votes[0]
        size = next((size for size in map(size_of, votes) if size is not None), None)
        if size is None:
            return nothing()
        classes = list(dict.fromkeys(name for vote in votes for name in vote["classes"]))
        layers = np.stack([unpack(vote, classes, size) for vote in votes])
        best, count = np.zeros(layers.shape[1:], np.uint8), np.zeros(layers.shape[1:], np.uint8)
        tied = np.zeros(best.shape, np.bool_)
        for number in np.setdiff1d(np.unique(layers), [IGNORED]):
            own = (layers == number).sum(axis=0, dtype=np.uint8)
            tied = np.where(own > count, False, tied | ((own == count) & (own > 0)))
            best, count = np.where(own > count, number, best).astype(np.uint8), np.maximum(own, count)
        agreed = (count > 0) & ~tied
        return pack(np.where(agreed, best, IGNORED).astype(np.uint8), classes) if agreed.any() else None

    def counts(self, prediction: Prediction, target: Target, classes: Sequence[str]) -> Counts:
        """Return the pixels of an image by true and predicted class, at MEASURED pixels of the longer side at most."""
        size = size_of(target) or size_of(prediction) or (1, 1)
        truth = scaled_down(unpack(target, classes, size), MEASURED)
        predicted = unpack(prediction, classes)
        if "png" in prediction:
            predicted = fitted(predicted, (truth.shape[1], truth.shape[0]))
        else:
            predicted = np.full_like(truth, BACKGROUND)
        return count_pixels(predicted, truth, len(classes))

    def quality(self, prediction: Prediction, target: Target) -> float:
        """Return the mean intersection over union of the classes that are in either; 1 where there is none.

        The background is no class.
        """
        classes = list(dict.fromkeys([*target["classes"], *prediction["classes"]]))
        return float(mean_iou(self.counts(prediction, target, classes)))

    def compared(self, prediction: Prediction, target: Target, classes: Sequence[str]) -> Counts:
        """Return the counts, of which quality and figures are made: to bring masks to one size takes time."""
        return self.counts(prediction, target, classes)

    def quality_of(self, compared: Counts) -> float:
        """Return the mean intersection over union of the classes that are in either."""
        return float(mean_iou(compared))

    def score(self, predictions: Sequence[Prediction], targets: Sequence[Target], classes: Sequence[str]) -> float:
        """Return the mean intersection over union of the classes, from the summed pixels of all images."""
        pairs = zip(predictions, targets, strict=True)
        return float(mean_iou(np.sum([self.counts(own, truth, classes) for own, truth in pairs], axis=0)))

    def classes_of(self, target: Target) -> tuple[str, ...]:
        """Return the classes of the mask."""
        return tuple(target["classes"])

    def decode(
        self, outputs: Outputs, indices: IntArray, classes: Sequence[str], decoding: Decoding
    ) -> list[Prediction]:
        """Return the masks, at GRID pixels of the longer side; those of images that no model has seen are empty."""
        if outputs.class_maps is None:
            raise BadInput("these outputs have no masks ('class_maps')")
        maps = outputs.class_maps
        return [_mask(np.asarray(maps[index]), classes) for index in indices.tolist()]

    def confidence(self, outputs: Outputs, indices: IntArray, decoding: Decoding, temperature: float) -> FloatArray:
        """Return the expected mean intersection over union of each mask, (n,) float32."""
        return _values(outputs, indices)[:, EXPECTED].astype(np.float32)

    def uncertainty(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return 1 minus the expected mean intersection over union, (n,) float64.

        It doubts a small object as much as a large one, as the metric does; means over pixels do not.
        """
        return 1.0 - _values(outputs, indices)[:, EXPECTED].astype(np.float64)

    def top_posterior(self, outputs: Outputs, indices: IntArray, decoding: Decoding) -> FloatArray:
        """Return the mean over the pixels of the highest posterior, (n,) (PT4AL, section 4.3)."""
        return _values(outputs, indices)[:, TOP].astype(np.float64)

    def margin(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the mean over the pixels of the difference between the two highest posteriors, (n,)."""
        return _values(outputs, indices)[:, MARGIN].astype(np.float64)

    def entropy(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the mean over the pixels of the entropy, (n,), 1 where all classes are as likely."""
        return _values(outputs, indices)[:, ENTROPY].astype(np.float64)

    def doubtful_part(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the mean highest posterior of the least certain tenth of the pixels, (n,)."""
        return _values(outputs, indices)[:, LEAST].astype(np.float64)

    def encode(self, targets: Sequence[Target], classes: Sequence[str]) -> Encoded:
        """Return the class ids, letterboxed, (n, GRID, GRID) uint8.

        What is outside of the image is IGNORED, but in targets without a size: the learner knows the images.
        """
        encoded = np.full((len(targets), GRID, GRID), IGNORED, np.uint8)
        for row, target in zip(encoded, targets, strict=True):
            size = size_of(target)
            if size is None:
                row[:] = BACKGROUND
                continue
            width, height = Letterbox(*size, GRID).content
            row[:height, :width] = resized(unpack(target, classes), (width, height))
        return encoded

    def check(self, truth: Encoded, classes: int) -> None:
        """Raise BadInput for anything but letterboxed class ids."""
        if truth.ndim != 3 or truth.shape[1:] != (GRID, GRID) or truth.dtype != np.uint8:
            raise BadInput(f"found masks of shape {truth.shape} and type {truth.dtype} instead of (n, {GRID}, {GRID})")
        if classes > MOST_CLASSES:
            raise BadInput(f"found {classes} classes: masks can have {MOST_CLASSES}")
        if (truth[truth != IGNORED] > classes).any():
            raise BadInput(f"found class ids up to {int(truth[truth != IGNORED].max())} for {classes} classes")


def _mask(pixels: Pixels, classes: Sequence[str]) -> Prediction:
    """Return the mask of what was kept of an image, without what is outside of it."""
    inside = pixels != IGNORED
    height, width = int(inside[:, 0].sum()), int(inside[0].sum())
    return pack(pixels[:height, :width], classes) if height and width else nothing()


def _values(outputs: Outputs, indices: IntArray) -> FloatArray:
    if outputs.values is None:
        raise BadInput("these outputs do not say how certain a model is ('values')")
    return np.asarray(outputs.values[indices])
