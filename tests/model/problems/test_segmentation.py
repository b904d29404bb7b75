"""Masks as a problem: votes, quality, and what is made of outputs."""

import numpy as np
import pytest

from model.data.masks import IGNORED, nothing, pack, unpack
from model.errors import BadInput
from model.problems.segmentation import COLUMNS, EXPECTED, GRID, LEAST, TOP, Segmentation
from model.querying.outputs import Outputs

CLASSES = ["sky", "road", "car"]
OF = Segmentation()


def mask(rows: list[list[int]]) -> dict:
    return pack(np.array(rows, np.uint8), CLASSES)


def test_merge_takes_the_majority_of_each_pixel_and_ignores_ties() -> None:
    votes = [mask([[1, 1, 2, 0]]), mask([[1, 2, 3, 0]]), mask([[1, 2, 1, IGNORED]])]
    assert unpack(OF.merge(votes), CLASSES).tolist() == [[1, 2, IGNORED, 0]]
    assert unpack(OF.merge(votes[:2]), CLASSES).tolist() == [[1, IGNORED, IGNORED, 0]]
    assert OF.merge([mask([[1, 2]]), mask([[2, 1]])]) is None


def test_merge_brings_votes_to_one_size_and_an_empty_one_is_background() -> None:
    votes = [nothing(), mask([[1, 0], [0, 0]]), mask([[1, 1, 0, 0]] * 4)]
    assert unpack(OF.merge(votes), CLASSES).tolist() == [[1, 0], [0, 0]]
    assert OF.merge([nothing(), nothing()]) == nothing()


def test_one_annotator_who_paints_everything_is_outvoted_and_alone_is_believed() -> None:
    everything = mask([[3, 3, 3, 3]])
    votes = [everything, mask([[1, 1, 0, 0]]), mask([[1, 2, 0, 0]])]
    assert unpack(OF.merge(votes), CLASSES).tolist() == [[1, IGNORED, 0, 0]]
    assert OF.merge([everything]) == everything


def test_masks_from_before_a_label_was_added_keep_their_classes() -> None:
    before = mask([[1, 2], [3, 0]])
    added = ["fence", *CLASSES]
    assert OF.fits(before, added)
    assert set(np.unique(OF.encode([before], added)).tolist()) == {0, 2, 3, 4}
    assert not OF.fits(before, CLASSES[:2])


def test_quality_is_the_mean_iou_of_the_classes_in_either() -> None:
    target = mask([[1, 1, 1, 1], [2, 2, 0, 0]])
    assert OF.quality(mask([[1, 1, 0, 0], [2, 2, 3, 0]]), target) == pytest.approx((2 / 4 + 1 + 0) / 3)
    assert OF.quality(nothing(), target) == 0
    assert OF.quality(nothing(), nothing()) == 1
    assert OF.quality(nothing(), mask([[0, 0]])) == 1


def test_quality_compares_a_coarse_prediction_at_the_size_of_the_target() -> None:
    truth = np.zeros((300, 400), np.uint8)
    truth[:, :200] = 1
    assert OF.quality(pack(truth[::4, ::4], CLASSES), pack(truth, CLASSES)) == 1
    assert OF.quality(pack(truth, CLASSES), pack(truth[::4, ::4], CLASSES)) == 1


def test_the_score_sums_pixels_before_it_divides() -> None:
    predictions, targets = [mask([[1, 1, 1, 2]]), mask([[1, 0]])], [mask([[1, 1, 2, 2]]), mask([[2, 0]])]
    assert OF.score(predictions, targets, CLASSES) == pytest.approx((2 / 4 + 1 / 3) / 2)
    qualities = [OF.quality(own, truth) for own, truth in zip(predictions, targets, strict=True)]
    assert qualities == pytest.approx([(2 / 3 + 1 / 2) / 2, 0])


def test_pixels_that_nobody_knows_do_not_count() -> None:
    target = mask([[1, IGNORED, IGNORED, 0]])
    assert OF.quality(mask([[1, 2, 3, 0]]), target) == 1  # the other two classes are in no pixel that is known
    counts = OF.counts(mask([[1, 2, 3, 0]]), target, CLASSES)
    assert counts.sum() == 2


def test_encoded_masks_are_letterboxed() -> None:
    truth = np.zeros((300, 400), np.uint8)
    truth[:, :200] = 2
    wide, tall, empty = OF.encode([pack(truth, CLASSES), pack(truth.T.copy(), CLASSES), nothing()], CLASSES)
    height = GRID * 3 // 4
    assert (wide[:height, : GRID // 2] == 2).all()
    assert (wide[:height, GRID // 2 :] == 0).all()
    assert (wide[height:] == IGNORED).all()
    assert np.array_equal(tall, wide.T)
    assert (empty == 0).all()
    OF.check(np.stack([wide, tall, empty]), len(CLASSES))


@pytest.mark.parametrize(
    ("truth", "classes"),
    [(np.zeros((2, GRID, GRID), np.int64), 3), (np.zeros((2, 4, 4), np.uint8), 3),
     (np.full((1, GRID, GRID), 4, np.uint8), 3), (np.zeros((1, GRID, GRID), np.uint8), 255)],
)  # fmt: skip
def test_what_no_model_can_learn_is_refused(truth, classes: int) -> None:
    with pytest.raises(BadInput, match="found"):
        OF.check(truth, classes)


def test_decode_leaves_out_what_is_outside_of_the_image_and_unseen_images() -> None:
    maps = np.full((2, GRID, GRID), IGNORED, np.uint8)
    maps[0, :120] = 0
    maps[0, :60, :80] = 3
    values = np.zeros((2, COLUMNS), np.float32)
    values[:, EXPECTED], values[:, LEAST], values[:, TOP] = [0.7, 0.4], [0.6, 0.9], [0.8, 0.5]
    outputs = Outputs(class_maps=maps, values=values)
    seen, unseen = OF.decode(outputs, np.arange(2), CLASSES, {})
    assert unpack(seen, CLASSES).shape == (120, GRID)
    assert (unpack(seen, CLASSES)[:60, :80] == 3).all()
    assert unseen == nothing()
    assert OF.confidence(outputs, np.array([1, 0]), {}, 1.0).tolist() == pytest.approx([0.4, 0.7])
    assert OF.uncertainty(outputs, np.arange(2)).tolist() == pytest.approx([0.3, 0.6])
    assert OF.derived("top_posterior", outputs, np.arange(2), {}).tolist() == pytest.approx([0.8, 0.5])
    assert OF.derived("doubtful_part", outputs, np.arange(2), {}).tolist() == pytest.approx([0.6, 0.9])
