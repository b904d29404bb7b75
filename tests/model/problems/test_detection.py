"""Boxes: matches, quality, several annotators, calibration; against counts by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import BadInput
from model.evaluation.boxes import (
    OVERLAPS,
    bootstrapped,
    detections,
    match,
    matches,
    mean_average_precision,
    overlaps,
)  # fmt: skip
from model.evaluation.calibration import expected_errors, fit_sigmoid, fit_temperature
from model.problems import PROBLEMS
from model.problems.detection import DEFAULT_THRESHOLD, canonical
from model.querying.outputs import OUTPUTS, Outputs, extended
from model.querying.selection import Candidates

DETECTION, CLASSES = PROBLEMS["detection"], ["cell", "plate"]
A, B, C = ["cell", 0.1, 0.1, 0.2, 0.2], ["cell", 0.5, 0.5, 0.2, 0.2], ["plate", 0.5, 0.1, 0.1, 0.1]


def outputs_of(*images, most=4):
    """Return outputs with these boxes: [left, top, width, height, score, class id] of each image."""
    boxes = np.full((len(images), most, 6), -1.0, np.float32)
    for row, image in zip(boxes, images, strict=True):
        row[: len(image)] = np.array(image).reshape(-1, 6)
    return Outputs(boxes=boxes)


def row(box, score):
    return [*box[1:], score, CLASSES.index(box[0])]


def test_overlap_is_intersection_over_union():
    assert overlaps(np.array([[0, 0, 2, 2]]), np.array([[1, 1, 2, 2], [0, 0, 2, 2], [5, 5, 1, 1]]))[0] == pytest.approx(
        [1 / 7, 1, 0]
    )


def test_each_box_takes_one_object_of_its_class_the_surest_first():
    boxes, objects = np.array([A[1:], A[1:], C[1:]]), np.array([A[1:], C[1:]])
    assert match(boxes, np.array([0, 0, 0]), objects, np.array([0, 1])).tolist() == [0, -1, -1]
    assert match(boxes[:0], np.zeros(0, int), objects, np.array([0, 1])).tolist() == []


@pytest.mark.parametrize(
    ("prediction", "target", "quality"),
    [
        ([], [], 1),
        ([], [A], 0),
        ([A], [], 0),
        ([A, B], [A, B, C], 0.8),
        ([[*A, 0.9], [*A, 0.8]], [A], 2 / 3),  # the second finds nothing
        ([["plate", *A[1:]]], [A], 0),
        ([["cell", 0.15, 0.1, 0.2, 0.2]], [A], 1),  # overlap 0.6
        ([["cell", 0.2, 0.1, 0.2, 0.2]], [A], 0),  # a third
        ([[*C, 0.3], [*B, 0.2]], [B, C], 1),
    ],
)
def test_quality_is_the_f1_of_matched_boxes(prediction, target, quality):
    assert DETECTION.quality(prediction, target) == pytest.approx(quality)


def shifted(box, x, name=None):
    return [name or box[0], round(box[1] + x, 5), *box[2:]]


@pytest.mark.parametrize(
    ("votes", "merged", "left_out"),
    [
        ([[A, B]], [A, B], 0),
        ([[], []], [], 0),
        ([[A], [A]], [A], 0),
        ([[A], []], [], 1),  # half of them is no majority
        ([[A, B], [A], [A, C]], [A], 2),
        ([[A], [shifted(A, 0.02)], [shifted(A, 0.04)]], [shifted(A, 0.02)], 0),
        ([[A], [A], [shifted(A, 0, "plate")]], [A], 0),
        ([[A], [shifted(A, 0, "plate")]], [], 1),  # nobody knows which
        ([[A, shifted(A, 0.01)], [A]], [A], 1),  # one annotator's two boxes are no two votes
    ],
)
def test_annotators_agree_on_what_most_of_them_drew(votes, merged, left_out):
    assert DETECTION.merge(votes) == merged
    assert DETECTION.left_out(votes) == left_out


def test_targets_are_canonical():
    boxes = [["plate", -0.1, 0.95, 0.2, 0.2], B, A, A, ["cell", 0.2, 0.2, 0, 0.5], ["cell", 0.1, 0.1, 0.1, 0.1234567]]
    assert canonical(boxes, CLASSES) == [
        ["cell", 0.1, 0.1, 0.1, 0.12346], A, B, ["plate", 0.0, 0.95, 0.1, 0.05],
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(CLASSES), *[st.floats(-0.5, 1.5) for _ in range(4)]), max_size=6))
def test_canonical_targets_fit_and_stay_as_they_are(boxes):
    target = canonical(boxes, CLASSES)
    assert DETECTION.fits(target, CLASSES)
    assert canonical(target, CLASSES) == target
    DETECTION.check(DETECTION.encode([target], CLASSES), 2)
    assert DETECTION.quality(target, target) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, 3, "cell", ["cell"], [["cell"]], [["horse", *A[1:]]], {"cell": 1}),
        *([["cell", 0, 0, 2, 1]], [["cell", 0, 0, 0, 1]], [["cell", -0.5, 0, 1, 1]]),
        *([["cell", "0", 0, 1, 1]], [["cell", True, 0, 1, 1]], [["cell", float("nan"), 0, 1, 1]]),
    ],
)
def test_other_values_do_not_fit(wrong):
    assert not DETECTION.fits(wrong, CLASSES)


def test_decoding_takes_boxes_from_the_threshold_on():
    outputs = outputs_of([row(A, 0.9), row(C, 0.3), row(B, 0.1)], [])
    everything = np.arange(2)
    assert DETECTION.decode(outputs, everything, CLASSES, {}) == [[[*A, 0.9], [*C, 0.3]], []]
    assert DETECTION.decode(outputs, everything, CLASSES, {"threshold": 0.5}) == [[[*A, 0.9]], []]
    assert DETECTION.decode(outputs, np.array([1]), CLASSES, {}) == [[]]
    with pytest.raises(BadInput, match="boxes"):
        DETECTION.decode(Outputs(), everything, CLASSES, {})


def test_confidence_is_the_ratio_of_expected_counts():
    outputs = outputs_of([row(A, 0.8), row(B, 0.4), row(C, 0.1)], [row(A, 0.1)], [])
    everything = np.arange(3)
    assert DETECTION.confidence(outputs, everything, {}, 1.0) == pytest.approx([2 * 1.2 / (2 + 1.3), 0.9, 1.0])
    missed = DETECTION.confidence(outputs, everything, {"missed": 0.5}, 1.0)
    assert missed == pytest.approx([2 * 1.2 / (2 + 1.8), 0.9 * np.exp(-0.5), np.exp(-0.5)])
    sharper = DETECTION.confidence(outputs, everything, {}, 0.5)
    assert sharper[0] != pytest.approx(missed[0])


def test_wrong_and_missed_boxes_are_expected_by_their_chances():
    outputs = outputs_of([row(A, 0.9), row(B, 0.6), row(C, 0.1)], [row(A, 0.2)], [])
    decoding = {"threshold": 0.5, "missed": 0.25}
    mistakes = DETECTION.expected_mistakes(outputs, np.arange(3), decoding, 1.0)
    assert mistakes.shown == 2
    assert mistakes.wrong == pytest.approx(0.1 + 0.4)
    assert mistakes.missed == pytest.approx(0.1 + 0.2 + 3 * 0.25)
    assert DETECTION.expected_mistakes(outputs, np.arange(0), decoding, 1.0).missed == 0
    cooler = DETECTION.expected_mistakes(outputs, np.arange(1), decoding, 2.0)
    assert cooler.wrong == pytest.approx(1 / (1 + 3) + 1 / (1 + 1.5**0.5))  # odds of 9 and 1.5, their roots


def test_an_image_costs_the_objects_that_are_expected_on_it():
    boxes = np.full((2, 2, 6), -1, np.float32)
    boxes[0, :, 4] = 0.75, 0.5
    outputs = Outputs(boxes=boxes)
    assert DETECTION.expected_objects(outputs, np.arange(2), {"missed": 0.25}).tolist() == [1.5, 0.25]
    candidates = Candidates(np.arange(2), np.zeros(2), outputs, problem=DETECTION, decoding={"missed": 0.25})
    assert candidates.costs(np.array([1, 0])).tolist() == [1, 1]
    per_object = replace(candidates, gain_per="object")
    assert per_object.costs(np.array([1, 0])).tolist() == [1.25, 2.5]
    assert DETECTION.objects([["a", 0, 0, 1, 1], ["a", 0, 0, 0.5, 1]]) == 2


def test_doubt_is_that_about_boxes_that_may_be_there():
    outputs = outputs_of([row(A, 1.0)], [row(A, 0.5)], [row(A, 0.5), row(B, 1.0)], [], [row(A, 1.0), row(B, 0.01)])
    doubt = DETECTION.uncertainty(outputs, np.arange(5))
    assert doubt == pytest.approx([0, 1, 1 / 3, 1, 0], abs=1e-3)
    assert doubt.dtype == np.float64


def test_the_threshold_is_that_of_the_best_f1_and_objects_without_a_box_are_counted():
    images = [[row(A, 0.9), row(B, 0.7), row(C, 0.2)]] * 6
    truth = DETECTION.encode([[A, B, ["plate", 0.8, 0.8, 0.1, 0.1]]] * 6, CLASSES)
    assert DETECTION.tune(outputs_of(*images), truth, CLASSES) == {"threshold": 0.45, "missed": 1.0}
    assert DETECTION.tune(outputs_of(*images[:2]), truth[:2], CLASSES) == {}
    assert DETECTION.tune(outputs_of(*[[]] * 6), truth, CLASSES) == {"missed": 3.0}


def test_scores_of_a_detector_that_is_too_sure_are_tempered():
    generator = np.random.default_rng(0)
    images, targets = [], []
    for _ in range(300):
        hit = generator.random() < 0.7
        images.append([row(A, 0.98)])
        targets.append([A] if hit else [])
    outputs, truth = outputs_of(*images), DETECTION.encode(targets, CLASSES)
    everything = np.arange(300)
    temperature = fit_temperature(DETECTION, outputs, everything, truth)
    assert temperature.value > 2
    tempered = DETECTION.confidence(outputs, everything, {}, temperature.value).mean()
    assert tempered < DETECTION.confidence(outputs, everything, {}, 1.0).mean()
    assert expected_errors(DETECTION, outputs, np.ones(300, bool), temperature, {}).expected > 20
    decoding = DETECTION.at_temperature({"threshold": 0.9, "missed": 1.0}, temperature.value)
    assert 0.5 < decoding["threshold"] < 0.9


def test_a_sigmoid_makes_chances_of_scores():
    generator = np.random.default_rng(0)
    logits = generator.normal(-1, 1, 4000)
    hits = generator.random(4000) < 1 / (1 + np.exp(-(2 * logits + 0.5)))
    found = fit_sigmoid(1 / (1 + np.exp(-logits)), hits)
    assert (found.slope, found.offset) == pytest.approx((2, 0.5), abs=0.2)
    few = fit_sigmoid(np.array([0.3]), np.array([True]))
    assert 0.5 < few.slope < 2
    assert fit_sigmoid(np.empty(0), np.empty(0, bool)).apply(np.array([0.25])) == pytest.approx([0.25])


def test_average_precision_is_that_of_a_curve_by_hand():
    """One class, two objects; boxes: hit, miss, hit. Precision 1 up to recall 0.5, then 2/3: (51 + 50 * 2/3) / 101."""

    def place(*boxes):
        return np.array([box[1:] for box in boxes], float).reshape(-1, 4)

    boxes = place(A, C, B), np.array([0, 0, 0]), np.array([0.9, 0.8, 0.7])
    found = detections([boxes], [(place(A, B), np.array([0, 0]))], classes=2)
    assert mean_average_precision(found) == pytest.approx(((51 + 50 * 2 / 3) / 101,) * 2)
    nothing = detections([(place(), np.empty(0, int), np.empty(0))], [(place(A), np.array([0]))], classes=1)
    assert mean_average_precision(nothing) == (0.0, 0.0)
    assert mean_average_precision(detections([boxes], [(place(), np.empty(0, int))], classes=1)) is None


def test_a_detector_is_scored_by_all_its_boxes():
    outputs = outputs_of([row(A, 0.9), row(C, 0.05)], [row(B, 0.8)])
    targets = [[A, C], [B]]
    assert DETECTION.scored == "map50"
    shown, everything = ({"threshold": 0.5}, DETECTION.ranked({"threshold": 0.5, "missed": 0.1}))
    few, every = (DETECTION.decode(outputs, np.arange(2), CLASSES, decoding) for decoding in (shown, everything))
    assert DETECTION.score(few, targets, CLASSES) == pytest.approx(0.5)
    assert DETECTION.score(every, targets, CLASSES) == pytest.approx(1.0)
    assert DETECTION.score([[], []], [[], []], CLASSES) == 1.0


def random_boxes(generator, n):
    return np.concatenate([generator.uniform(0, 0.6, (n, 2)), generator.uniform(0.1, 0.4, (n, 2))], axis=1)


def test_boxes_are_matched_at_every_overlap_as_at_one():
    generator = np.random.default_rng(0)
    for _ in range(20):
        truth = random_boxes(generator, 12)
        boxes = np.concatenate([truth + generator.normal(0, 0.03, truth.shape), random_boxes(generator, 8)])
        boxes = boxes[generator.permutation(len(boxes))].clip(0.01)
        names, true_names = generator.integers(0, 2, len(boxes)), generator.integers(0, 2, len(truth))
        together = matches(boxes, names, truth, true_names, OVERLAPS)
        for column, least in enumerate(OVERLAPS):
            assert together[:, column].tolist() == greedy(boxes, names, truth, true_names, least)


def greedy(boxes, names, truth, true_names, least):
    """Each box, in turn, takes the best object of its class that is still free."""
    overlap, free, found = overlaps(boxes, truth), set(range(len(truth))), []
    for box, name in zip(overlap, names, strict=True):
        best = max((i for i in free if true_names[i] == name), key=lambda i, b=box: b[i], default=-1)
        found.append(best if best >= 0 and box[best] >= least else -1)
        free.discard(found[-1])
    return found


def test_an_image_that_counts_twice_is_as_good_as_two():
    generator = np.random.default_rng(0)
    predictions, targets = [], []
    for _ in range(6):
        truth = random_boxes(generator, 5)
        boxes = np.concatenate([truth[:4] + generator.normal(0, 0.02, (4, 4)), random_boxes(generator, 3)]).clip(0.01)
        order = np.argsort(-(scores := generator.random(7)))
        predictions.append((boxes[order], generator.integers(0, 2, 7)[order], scores[order]))
        targets.append((truth, generator.integers(0, 2, 5)))
    times = np.array([2, 0, 1, 3, 1, 0])
    rows = np.repeat(np.arange(6), times)
    repeated = detections([predictions[i] for i in rows], [targets[i] for i in rows], 2)
    weighted = mean_average_precision(detections(predictions, targets, 2), times.astype(float))
    assert weighted == pytest.approx(mean_average_precision(repeated))
    assert 0 < weighted[1] < weighted[0] < 1


def test_the_bootstrap_surrounds_the_value():
    generator = np.random.default_rng(0)
    predictions, targets = [], []
    for _ in range(40):
        score = generator.random()
        predictions.append((np.array([A[1:]]), np.array([0]), np.array([score])))
        targets.append((np.array([A[1:] if generator.random() < score else B[1:]]), np.array([0])))
    found = detections(predictions, targets, 1)
    value = mean_average_precision(found)
    low, high = np.quantile(bootstrapped(found, 40)[:, 0], [0.025, 0.975])
    assert low < value[0] < high
    assert high - low < 0.6
    assert mean_average_precision(found, np.ones(40)) == value


def test_images_that_came_after_a_model_have_no_boxes():
    boxes = outputs_of([row(A, 0.9)]).boxes
    assert (extended("boxes", boxes, 3)[1:] == -1).all()
    assert OUTPUTS["boxes"].neutral(boxes) == -1
    assert DEFAULT_THRESHOLD > 0
