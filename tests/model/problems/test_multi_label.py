"""Several classes an image, against values worked out by hand."""

import numpy as np
import pytest
import torch

from model.errors import BadInput
from model.problems import PROBLEMS
from model.problems.multi_label import FEWEST, LOWEST, PRIOR, calibrate
from model.querying.outputs import Outputs

MULTI = PROBLEMS["multi_label"]
CLASSES = ["a", "b", "c"]


def outputs(*rows: list[float]) -> Outputs:
    return Outputs(class_probs=np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ([], [], 1.0),
        (["a"], [], 0.0),
        ([], ["a"], 0.0),
        (["a", "b"], ["b", "a"], 1.0),
        (["a", "b"], ["b", "c"], 0.5),  # one of two, and one of two
        (["a"], ["a", "b", "c"], 0.5),  # precision 1, recall 1/3
        (["a"], ["b"], 0.0),
    ],
)
def test_quality_is_the_f1_of_the_two_sets(prediction, target, expected) -> None:
    assert MULTI.quality(prediction, target) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([], None),
        ([["a"], ["b"], ["a", "b"]], ["a", "b"]),
        ([["a"], ["b"]], []),  # each class has half of the votes: none has more
        ([["a", "c"], ["a"]], ["a"]),  # the dispute about c does not cost a
        (
            [["b", "c"], ["a", "c"], ["a", "b"]],
            ["a", "b", "c"],
        ),  # each in two votes of three, in the order of the votes
        ([[], [], ["a"]], []),
    ],
)
def test_merge_takes_the_classes_of_more_than_half_of_the_votes(votes, expected) -> None:
    assert MULTI.merge(votes) == expected


def test_decode_takes_what_reaches_its_threshold() -> None:
    given = outputs([0.5, 0.49, 0.9], [0.3, 0.1, 0.0])
    assert MULTI.decode(given, np.arange(2), CLASSES, {}) == [["a", "c"], []]
    tuned = {"thresholds": [0.6, 0.2, 0.95]}
    assert MULTI.decode(given, np.arange(2), CLASSES, tuned) == [["b"], []]
    with pytest.raises(BadInput, match="2 thresholds for 3 classes"):
        MULTI.decode(given, np.arange(2), CLASSES, {"thresholds": [0.5, 0.5]})


def test_confidence_is_the_ratio_of_expected_counts_and_of_an_empty_set_its_probability() -> None:
    given = outputs([0.9, 0.6, 0.1], [0.2, 0.1, 0.5 - 1e-3])
    # S = {a, b}: 2 * 1.5 / (2 + 1.6). Nothing reaches 0.5: 0.8 * 0.9 * 0.501.
    assert MULTI.confidence(given, np.arange(2), {}, 1.0) == pytest.approx([3 / 3.6, 0.8 * 0.9 * 0.501], rel=1e-5)


def test_confidence_at_a_temperature_keeps_the_prediction() -> None:
    given, odds = outputs([0.8, 0.3, 0.1]), np.sqrt([4, 3 / 7, 1 / 9])  # logits halved: the root of the odds
    p = odds / (1 + odds)
    assert MULTI.confidence(given, np.arange(1), {}, 2.0) == pytest.approx([2 * p[0] / (1 + p.sum())], rel=1e-5)


def test_uncertainty_is_the_mean_doubt() -> None:
    # Doubts 1, 0.4, 0: mean 1.4 / 3.
    assert MULTI.uncertainty(outputs([0.5, 0.8, 1.0]), np.arange(1)) == pytest.approx([1.4 / 3], rel=1e-6)


def test_calibrated_probabilities_are_those_of_divided_logits() -> None:
    np.testing.assert_allclose(calibrate(np.array([[0.8, 0.5]]), 2.0), [[2 / 3, 0.5]], rtol=1e-6)


def test_loss_is_the_sum_of_the_binary_cross_entropies() -> None:
    raw, truth = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])
    assert float(MULTI.loss(raw, truth, 0.0)) == pytest.approx(3 * np.log(2))
    raw = torch.tensor([[np.log(3.0), 0.0, 0.0]], dtype=torch.float32)  # p = 0.75; smoothed by 0.2 the target is 0.9
    expected = -0.9 * np.log(0.75) - 0.1 * np.log(0.25) + 2 * np.log(2)
    assert float(MULTI.loss(raw, truth, 0.2)) == pytest.approx(expected, rel=1e-6)


def test_agreement_is_kappa_over_images_and_classes() -> None:
    # Decisions about (image, a), (image, b): 11 00 01 00 against 11 00 00 00. po = 7/8; the shares of yes are 3/8 and
    # 2/8: pe = 6/64 + 30/64... = 3/8 * 2/8 + 5/8 * 6/8.
    first, second = [["a", "b"], [], ["b"], []], [["a", "b"], [], [], []]
    chance = 3 / 8 * 2 / 8 + 5 / 8 * 6 / 8
    assert MULTI.agreement(first, second) == pytest.approx((7 / 8 - chance) / (1 - chance))
    assert MULTI.agreement([[], []], [[], []]) is None


def column(probabilities: list[float], truth: list[int]) -> float:
    (threshold,) = MULTI.tune(
        Outputs(class_probs=np.array(probabilities, np.float32)[:, None]), np.array(truth)[:, None], ["a"]
    )["thresholds"]
    return threshold


def test_tune_takes_the_threshold_of_the_highest_f1_drawn_towards_one_half() -> None:
    # 20 images with the class at 0.2, 20 without at 0.05: every cut between them is right; the middle of the logits
    # ln(1/4) and ln(1/19) is the best, times 20 / (20 + PRIOR).
    threshold = column([0.2] * 20 + [0.05] * 20, [1] * 20 + [0] * 20)
    logit = (np.log(1 / 4) + np.log(1 / 19)) / 2 * 20 / (20 + PRIOR)
    assert threshold == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)


def test_tune_keeps_one_half_where_it_is_as_good_and_where_examples_are_few() -> None:
    assert column([0.9] * 20 + [0.1] * 20, [1] * 20 + [0] * 20) == 0.5
    few = FEWEST - 1
    assert column([0.2] * few + [0.05] * 30, [1] * few + [0] * 30) == 0.5
    assert column([0.9] * 30 + [0.8] * few, [1] * 30 + [0] * few) == 0.5
    assert column([0.3] * 30, [1] * 30) == 0.5


def test_tune_does_not_have_every_image_take_a_class_that_the_model_knows_nothing_about() -> None:
    probabilities = np.random.default_rng(0).random(90) * 0.3
    assert column(probabilities.tolist(), [1, 0, 0] * 30) == LOWEST


def test_tune_raises_the_mean_quality_on_other_images_of_a_model_that_is_too_careful() -> None:
    generator = np.random.default_rng(0)
    truth = (generator.random((600, 3)) < 0.3).astype(np.float32)
    logits = 2 * truth - 3 + generator.normal(0, 0.7, truth.shape)  # most classes that are there get less than 0.5
    given = Outputs(class_probs=(1 / (1 + np.exp(-logits))).astype(np.float32))
    decoding = MULTI.tune(Outputs(class_probs=given.class_probs[:100]), truth[:100], CLASSES)
    targets = [[name for name, there in zip(CLASSES, row, strict=True) if there] for row in truth[100:]]
    plain, tuned = (
        np.mean([MULTI.quality(p, t) for p, t in zip(predictions, targets, strict=True)])
        for predictions in (MULTI.decode(given, np.arange(100, 600), CLASSES, d) for d in ({}, decoding))
    )
    assert tuned > plain + 0.1
