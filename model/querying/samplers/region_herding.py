"""Region herding: images that show most of what each class looks like, place by place."""

import numpy as np

from model.data.masks import IGNORED
from model.querying.distances import unit_rows
from model.querying.herding import MOST, SAMPLE, apart, cover, kernel
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray, IntArray
from model.querying.selection import Candidates, Query, lowest, query_by_rank

MEASURED = 8192  # places that coverage is measured on
SPREAD = 1024  # places of covered images that the kernel's width is measured on
CHUNK = 256  # images whose class maps are read at once
BLOCK = 1 << 25  # entries of a table of distances: 128 MB


class RegionHerding:
    """Ask, one after the other, the image that covers most places of the pool that nothing labeled or asked covers yet.

    An image of many objects is worth what is new in it, wherever in the image that is. An image covers a place as far
    as its own most similar place does, by the Gaussian kernel of herding. Its width is the median distance of a place
    of a covered image to the nearest one in another of them: it falls as labels come. All predicted classes, and the
    background, weigh alike, however few pixels they have: the mean intersection over union counts them alike.
    """

    info = StrategyInfo("shows the most places of every predicted class that nothing labeled shows", "this project")
    needs = frozenset({"places", "class_maps", "uncertainty"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates, each the one of the largest gain; of a large pool, of a drawn part of it.

        More than that part are filled up by uncertainty.
        """
        indices = candidates.indices
        drawn = generator.permutation(len(indices))[: max(SAMPLE, min(2 * k, MOST))]
        measured = np.sort(generator.permutation(candidates.to_cover)[:SAMPLE])
        places = candidates.rows("places", measured)  # (m, P, D)
        weights = place_weights(candidates, measured, places.shape[1])
        shown = np.flatnonzero(weights.ravel() > 0)
        weight = weights.ravel()[shown]
        if len(shown) > MEASURED:
            shown = generator.choice(shown, MEASURED, p=weight / weight.sum())
            weight = np.ones(MEASURED, np.float32)
        flat = places.reshape(-1, places.shape[2])
        mean = flat[shown].mean(axis=0) if len(shown) else 0.0
        y = unit_rows(flat[shown] - mean)
        covered = _nearest(candidates, candidates.covered, y, mean).min(axis=0, initial=np.inf)
        width = _width(candidates, mean, generator)
        rows = kernel(_nearest(candidates, indices[drawn], y, mean), width)
        picks = drawn[cover(rows, kernel(covered, width), weight, k)]
        rest = indices[np.setdiff1d(np.arange(len(indices)), picks)] if len(picks) < k else indices[:0]
        more, _ = lowest(rest, -candidates.rows("uncertainty", rest), k - len(picks))
        return query_by_rank(np.concatenate([indices[picks], more]))


def place_weights(candidates: Candidates, indices: IntArray, places: int) -> FloatArray:
    """Return the weight of each place of these images, (n, places) float32: those of a class sum up to 1.

    places: of a square grid over an image. The background is one of the classes: an object that the model has missed
    lies in it. What is outside of an image weighs nothing.
    """
    pixels = np.zeros(256)
    for start in range(0, len(indices), CHUNK):
        maps = candidates.rows("class_maps", indices[start : start + CHUNK]).astype(np.uint8)
        pixels += np.bincount(maps.ravel(), minlength=256)
    pixels[IGNORED] = 0
    of_class = np.where(pixels > 0, 1 / np.maximum(pixels, 1), 0).astype(np.float32)
    weights = np.zeros((len(indices), places), np.float32)
    side = round(places**0.5)
    for start in range(0, len(indices), CHUNK):
        maps = candidates.rows("class_maps", indices[start : start + CHUNK]).astype(np.uint8)
        step = maps.shape[1] // side
        cells = of_class[maps].reshape(len(maps), side, step, side, step)
        weights[start : start + CHUNK] = cells.sum(axis=(2, 4)).reshape(len(maps), places)
    return weights


def _nearest(candidates: Candidates, indices: IntArray, y: FloatArray, mean: FloatArray | float) -> FloatArray:
    """Return the squared distance of each of ``y`` (m, D) to the most similar place of each image, (n, m) float32."""
    squared = np.empty((len(indices), len(y)), np.float32)
    places = candidates.rows("places", indices[:0]).shape[1]
    step = max(1, BLOCK // max(len(y) * places, 1))
    for start in range(0, len(indices), step):
        part = candidates.rows("places", indices[start : start + step])
        x = unit_rows(part.reshape(-1, part.shape[2]) - mean)
        similar = (x @ y.T).reshape(len(part), places, len(y)).max(axis=1)
        squared[start : start + step] = np.maximum(2 - 2 * similar, 0)
    return squared


def _width(candidates: Candidates, mean: FloatArray | float, generator: np.random.Generator) -> float:
    """Return the median distance of a place of a covered image to the nearest in another one; 1 below two images."""
    covered = candidates.covered
    if len(covered) < 2:
        return 1.0
    images = generator.permutation(len(covered))[:SPREAD]
    places = candidates.rows("places", covered[images])
    inside = np.flatnonzero(place_weights(candidates, covered[images], places.shape[1]).ravel() > 0)
    drawn = generator.permutation(inside)[:SPREAD]
    if not len(drawn):
        return 1.0
    squared = _nearest(candidates, covered, unit_rows(places.reshape(-1, places.shape[2])[drawn] - mean), mean)
    squared[images[drawn // places.shape[1]], np.arange(len(drawn))] = np.inf  # that image itself
    return apart(float(np.median(np.sqrt(squared.min(axis=0)))))
