"""What every problem promises, over the registry."""

import json

import numpy as np
import pytest
import torch

from model.data.masks import IGNORED, nothing, pack
from model.errors import BadInput, UnknownName
from model.problems import PROBLEMS, Problem, problem
from model.problems.base import VectorProblem
from model.problems.segmentation import COLUMNS, GRID
from model.querying.outputs import COMMON_DERIVED, DERIVED, OUTPUTS, Outputs
from model.querying.samplers import check_sampler, samplers_for

CLASSES = ["cat", "dog", "bird", "fish"]
TARGETS = {
    "single_label": ["dog", "cat", "fish", "dog", "bird"],
    "multi_label": [["dog"], [], ["cat", "fish"], ["dog", "bird"], ["fish"]],
    "detection": [
        [["dog", 0.1, 0.1, 0.2, 0.2]], [], [["cat", 0.5, 0.5, 0.5, 0.5], ["fish", 0.0, 0.0, 0.1, 0.3]],
        [["dog", 0.1, 0.1, 0.2, 0.2], ["dog", 0.5, 0.1, 0.2, 0.2]], [["fish", 0.0, 0.0, 1.0, 1.0]],
    ],
    "segmentation": [
        pack(np.tile(np.repeat(np.array(row, np.uint8), GRID // 4), (GRID, 1)), CLASSES)
        for row in ([2, 2, 0, 0], [1, 1, 1, 3], [4, 0, 0, 0], [2, 3, 2, 3])
    ] + [nothing()],
}  # fmt: skip
VECTORS = [name for name, of in PROBLEMS.items() if isinstance(of, VectorProblem)]
N = 300


@pytest.fixture(params=PROBLEMS)
def kind(request) -> Problem:
    return PROBLEMS[request.param]


@pytest.fixture(params=VECTORS)
def vector(request) -> VectorProblem:
    """A problem with a head and a loss."""
    return PROBLEMS[request.param]


def targets_of(kind: Problem, n: int) -> list:
    known = TARGETS[kind.name]
    return [known[number % len(known)] for number in range(n)]


def outputs_of(kind: Problem, n: int = N, seed: int = 0) -> Outputs:
    if not isinstance(kind, VectorProblem):
        return masks_of(n, seed) if kind.name == "segmentation" else boxes_of(n, seed)
    raw = torch.randn(n, len(CLASSES), generator=torch.Generator().manual_seed(seed)) * 2
    return Outputs(**{name: array.numpy() for name, array in kind.outputs_of(raw).items()})


def boxes_of(n: int, seed: int) -> Outputs:
    """Return three boxes an image, of random places, scores and classes."""
    generator = np.random.default_rng(seed)
    boxes = np.full((n, 5, 6), -1.0, np.float32)
    boxes[:, :3, :2] = generator.random((n, 3, 2)) / 2
    boxes[:, :3, 2:4] = 0.1 + generator.random((n, 3, 2)) / 4
    boxes[:, :3, 4] = -np.sort(-generator.random((n, 3)), axis=1)
    boxes[:, :3, 5] = generator.integers(0, len(CLASSES), (n, 3))
    return Outputs(boxes=boxes)


def masks_of(n: int, seed: int) -> Outputs:
    """Return masks of blocks of random classes, in images twice as wide as high."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, len(CLASSES) + 1, (n, GRID // 40, GRID // 20)).astype(np.uint8)
    maps = np.full((n, GRID, GRID), IGNORED, np.uint8)
    maps[:, : GRID // 2] = blocks.repeat(20, axis=1).repeat(20, axis=2)
    return Outputs(class_maps=maps, values=generator.random((n, COLUMNS)).astype(np.float32))


def test_problem_stands_under_its_name(kind: Problem) -> None:
    assert problem(kind.name) is kind


def test_unknown_problem_lists_the_choices() -> None:
    with pytest.raises(
        UnknownName, match=r"unknown problem 'best'.*detection, multi_label, segmentation, single_label"
    ):
        problem("best")


def test_outputs_are_known_and_hold_the_base_outputs(kind: Problem) -> None:
    assert kind.outputs <= {*OUTPUTS, *DERIVED, "labels"}
    assert set(kind.base_outputs) | COMMON_DERIVED <= kind.outputs


def test_a_head_gives_the_base_outputs(vector: VectorProblem) -> None:
    raw = vector.head(6, len(CLASSES))(torch.zeros(2, 6))
    assert tuple(vector.outputs_of(raw)) == vector.base_outputs


def test_targets_fit_and_are_json(kind: Problem) -> None:
    for target in TARGETS[kind.name]:
        assert kind.fits(target, CLASSES)
        assert json.loads(json.dumps(target)) == target
        assert not kind.fits(target, []) or not kind.classes_of(target)


@pytest.mark.parametrize("foreign", [None, 3, "horse", ["horse"], ["cat", "cat"], {"cat": 1}])
def test_other_values_do_not_fit(kind: Problem, foreign) -> None:
    assert not kind.fits(foreign, CLASSES)


def test_quality_is_one_for_the_target_itself_and_never_outside_the_unit_interval(kind: Problem) -> None:
    targets = TARGETS[kind.name]
    for target in targets:
        assert kind.quality(target, target) == 1.0
        for other in targets:
            assert kind.quality_of(kind.compared(other, target, CLASSES)) == pytest.approx(kind.quality(other, target))
        assert all(0.0 <= kind.quality(other, target) <= 1.0 for other in targets)
        assert all(kind.quality(other, target) == kind.quality(target, other) for other in targets)


def test_merge_returns_what_all_say(kind: Problem) -> None:
    for target in TARGETS[kind.name]:
        assert kind.merge([target]) == target
        assert kind.merge([target, target, target]) == target


def test_classes_of_a_target_are_of_the_configuration(kind: Problem) -> None:
    for target in TARGETS[kind.name]:
        assert set(kind.classes_of(target)) <= set(CLASSES)


def test_encoded_targets_pass_the_check_and_others_do_not(kind: Problem) -> None:
    truth = kind.encode(TARGETS[kind.name], CLASSES)
    assert len(truth) == 5
    kind.check(truth, len(CLASSES))
    for wrong in (truth + np.array(9, truth.dtype), np.full((5, 2), -1), np.full(truth.shape, np.nan)):
        with pytest.raises(BadInput):
            kind.check(wrong, len(CLASSES))


def test_predictions_of_a_sure_model_are_its_targets(vector: VectorProblem) -> None:
    targets = targets_of(vector, 10)
    encoded = torch.from_numpy(vector.encode(targets, CLASSES))
    hot = torch.nn.functional.one_hot(encoded, len(CLASSES)).float() if encoded.ndim == 1 else encoded
    outputs = Outputs(**{name: array.numpy() for name, array in vector.outputs_of(20 * hot - 10).items()})
    indices = np.arange(10)
    assert vector.decode(outputs, indices, CLASSES, {}) == targets
    assert vector.confidence(outputs, indices, {}, 1.0) == pytest.approx(1.0, abs=1e-3)
    assert vector.uncertainty(outputs, indices) == pytest.approx(0.0, abs=1e-3)


def test_predictions_are_targets_of_the_rows_asked_for(kind: Problem) -> None:
    outputs = outputs_of(kind)
    some = np.array([7, 3, 299])
    whole = kind.decode(outputs, np.arange(N), CLASSES, {})
    assert kind.decode(outputs, some, CLASSES, {}) == [whole[index] for index in some]
    assert all(kind.fits(prediction, CLASSES) for prediction in whole)
    assert kind.decode(outputs, some[:0], CLASSES, {}) == []


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_confidence_and_uncertainty_are_one_number_an_image(kind: Problem, temperature: float) -> None:
    outputs = outputs_of(kind)
    confidence = kind.confidence(outputs, np.arange(N), {}, temperature)
    doubt = kind.uncertainty(outputs, np.arange(N))
    assert (confidence.shape, confidence.dtype, doubt.shape, doubt.dtype) == ((N,), np.float32, (N,), np.float64)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert ((doubt >= 0) & (doubt <= 1)).all()
    assert kind.confidence(outputs, np.arange(0), {}, temperature).shape == (0,)


def test_predictions_do_not_depend_on_the_chunks(kind: Problem, monkeypatch) -> None:
    outputs, indices = outputs_of(kind), np.arange(N)
    whole = kind.decode(outputs, indices, CLASSES, {}), kind.confidence(outputs, indices, {}, 2.0).tolist()
    monkeypatch.setattr("model.problems.base.CHUNK", 7)
    assert (kind.decode(outputs, indices, CLASSES, {}), kind.confidence(outputs, indices, {}, 2.0).tolist()) == whole


def test_log_likelihood_is_that_of_the_loss_at_temperature_one(vector: VectorProblem) -> None:
    raw = torch.randn(N, len(CLASSES), generator=torch.Generator().manual_seed(1))
    outputs = Outputs(**{name: array.numpy() for name, array in vector.outputs_of(raw).items()})
    truth = vector.encode(targets_of(vector, N), CLASSES)
    likelihoods = vector.log_likelihood(outputs, np.arange(N), truth, np.array([0.5, 1.0, 2.0]))
    expected = [-float(vector.loss(raw / t, torch.from_numpy(truth), 0.0).sum()) for t in (0.5, 1.0, 2.0)]
    assert likelihoods == pytest.approx(expected, rel=1e-4)


def test_loss_is_one_number_an_image_with_a_gradient(vector: VectorProblem) -> None:
    truth = torch.from_numpy(vector.encode(targets_of(vector, 8), CLASSES))
    raw = torch.zeros(8, len(CLASSES), requires_grad=True)
    losses = vector.loss(raw, truth, 0.1)
    assert losses.shape == (8,)
    losses.sum().backward()
    assert torch.isfinite(raw.grad).all()
    assert raw.grad.abs().sum() > 0


def test_models_that_predict_alike_agree_and_others_do_not(kind: Problem) -> None:
    first, second = (kind.decode(outputs_of(kind, seed=seed), np.arange(N), CLASSES, {}) for seed in (0, 1))
    assert kind.agreement(first, first) == pytest.approx(1.0)
    assert abs(kind.agreement(first, second)) < 0.2  # kappa: nothing but chance
    assert kind.agreement([], []) is None


def test_tuned_decoding_is_json_that_decode_takes(kind: Problem) -> None:
    outputs, truth = outputs_of(kind), kind.encode(targets_of(kind, N), CLASSES)
    decoding = kind.tune(outputs, truth, CLASSES)
    assert json.loads(json.dumps(decoding)) == decoding
    assert len(kind.decode(outputs, np.arange(N), CLASSES, decoding)) == N
    same = kind.at_temperature(decoding, 1.0)
    assert same.keys() == decoding.keys()
    assert all(same[name] == pytest.approx(value, abs=1e-6) for name, value in decoding.items())


def test_outputs_without_the_base_outputs_are_refused(kind: Problem) -> None:
    with pytest.raises(BadInput, match=kind.base_outputs[0]):
        kind.decode(Outputs(), np.arange(1), CLASSES, {})


def test_each_problem_has_samplers_that_need_no_more_than_it_gives(kind: Problem) -> None:
    names = samplers_for(kind)
    assert {"random", "least_confidence", "uncertainty_herding", "core_set"} <= set(names)
    for name in names:
        check_sampler(name, kind)


def test_a_sampler_that_needs_one_posterior_says_so() -> None:
    expected = r"sampler: 'entropy' needs one posterior over classes that exclude each other, which multi_label .* "
    with pytest.raises(BadInput, match=expected + "choose one of random, least_confidence, "):
        check_sampler("entropy", PROBLEMS["multi_label"])
    check_sampler("entropy", PROBLEMS["single_label"])
