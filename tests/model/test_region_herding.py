"""Region herding, against its definition and on pools whose answer is plain."""

import numpy as np
import pytest

from model.data.masks import IGNORED
from model.problems import problem
from model.querying.outputs import FEATURES, Outputs
from model.querying.samplers import region_herding, sampler
from model.querying.samplers.region_herding import place_weights
from model.querying.selection import Candidates

SIDE, PIXELS, WIDTH = 2, 4, 6  # places and pixels of an image's side, numbers of a place


def candidates_of(kinds, features, *, covered=(), free=None):
    """Images (n, 4) of places, each of one kind, which is the predicted class of its pixels too."""
    kinds = np.asarray(kinds)
    maps = kinds.reshape(-1, SIDE, SIDE).repeat(PIXELS // SIDE, axis=1).repeat(PIXELS // SIDE, axis=2)
    covered = np.asarray(covered, np.int64)
    everything = np.arange(len(kinds))
    return Candidates(
        indices=np.setdiff1d(everything, covered) if free is None else np.asarray(free),
        losses=np.full(len(kinds), np.nan, np.float32),
        outputs=Outputs(
            class_maps=maps.astype(np.uint8),
            values=np.zeros((len(kinds), 5), np.float32),
            places=np.asarray(features).astype(FEATURES),
        ),
        covered=covered,
        problem=problem("segmentation"),
        pool=everything,
    )


def features_of(kinds, seed=0):
    generator = np.random.default_rng(seed)
    centres = 4 * generator.normal(size=(5, WIDTH))
    return centres[np.asarray(kinds)] + generator.normal(size=(*np.shape(kinds), WIDTH)) / 4


def test_each_class_weighs_as_much_and_what_is_outside_nothing() -> None:
    kinds = [[0, 0, 1, IGNORED], [0, 0, 0, IGNORED]]
    weights = place_weights(candidates_of(kinds, np.zeros((2, 4, WIDTH))), np.arange(2), 4)
    assert weights == pytest.approx(np.array([[0.2, 0.2, 1, 0], [0.2, 0.2, 0.2, 0]]))


def test_an_image_with_a_small_place_of_a_rare_class_is_asked_first() -> None:
    kinds = np.ones((40, 4), int)
    kinds[7, 3] = 2
    kinds[20:, :2] = 0
    asked = sampler("region_herding").select(
        candidates_of(kinds, features_of(kinds), covered=[0, 30]), 1, np.random.default_rng(0)
    )
    assert asked.indices.tolist() == [7]


def test_it_is_the_greedy_maximum_of_its_definition() -> None:
    generator = np.random.default_rng(1)
    kinds = generator.integers(0, 3, (60, 4))
    features = generator.normal(size=(60, 4, WIDTH)).astype(FEATURES)
    candidates = candidates_of(kinds, features, covered=[3, 4, 5])
    flat = features.astype(np.float64).reshape(-1, WIDTH)
    flat = flat - flat.mean(axis=0)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    squared = (2 - 2 * flat @ flat.T).reshape(60, 4, -1).min(axis=1)  # of an image to each place
    weight = place_weights(candidates, np.arange(60), 4).ravel()
    of_covered = [min(squared[other, 4 * image + place] for other in (3, 4, 5) if other != image)
                  for image in (3, 4, 5) for place in range(4)]  # fmt: skip
    near = np.exp(-squared / np.median(np.sqrt(of_covered)) ** 2)
    asked = [3, 4, 5]
    for _ in range(6):
        free = [image for image in range(60) if image not in asked]
        asked.append(max(free, key=lambda image: near[[*asked, image]].max(axis=0) @ weight))
    found = sampler("region_herding").select(candidates, 6, np.random.default_rng(0)).indices.tolist()
    assert found == asked[3:]


def test_places_of_a_large_pool_are_drawn_by_their_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_herding, "MEASURED", 40)
    kinds = np.ones((300, 4), int)
    kinds[[50, 150, 250], 0] = 2  # three places in 1,200
    picks = [
        sampler("region_herding").select(
            candidates_of(kinds, features_of(kinds), covered=[0, 1]), 1, np.random.default_rng(seed)
        )
        for seed in range(5)
    ]
    assert {int(query.indices[0]) for query in picks} <= {50, 150, 250}


def test_where_only_the_background_is_predicted_it_still_covers() -> None:
    kinds = np.zeros((30, 4), int)
    features = features_of(np.arange(120).reshape(30, 4) // 60)
    asked = sampler("region_herding").select(candidates_of(kinds, features, covered=[0]), 1, np.random.default_rng(0))
    assert asked.indices[0] >= 15
