import numpy as np
import pytest

from model.errors import BadInput
from model.evaluation.calibration import Temperature, expected_errors, predict
from model.evaluation.calibration import fit_temperature as fit
from model.problems import problem
from model.problems.single_label import calibrate
from model.querying.outputs import Outputs

SINGLE = problem("single_label")


def fit_temperature(probs: np.ndarray, truth: np.ndarray) -> Temperature:
    return fit(SINGLE, Outputs(probs=probs), np.arange(len(probs)), truth)


def draws(n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors of a model that says softmax(z) while its classes follow softmax(z / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2.5, (n, 5))
    said, true = (np.exp(logits / t) / np.exp(logits / t).sum(axis=1, keepdims=True) for t in (1.0, temperature))
    truth = (true.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return said.astype(np.float32), truth


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_temperature_is_found_again(temperature: float) -> None:
    assert fit_temperature(*draws(20_000, temperature)).value == pytest.approx(temperature, rel=0.06)


def test_temperature_stays_near_one_with_few_images_and_is_one_without_any() -> None:
    probs, truth = np.array([[0.99, 0.01]] * 100, np.float32), np.arange(100) % 2  # sure, and wrong half of the time
    few, many = (fit_temperature(probs[:n], truth[:n]).value for n in (2, 100))
    assert 1.0 < few < 2.0 < many
    assert fit_temperature(probs[:0], truth[:0]).value == 1.0


def test_calibrated_posteriors_are_those_of_divided_logits() -> None:
    probs = np.array([[0.8, 0.2]], np.float32)  # logits ln 4 and 0; halved: ln 2 and 0
    np.testing.assert_allclose(calibrate(probs, 2.0), [[2 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(calibrate(np.array([[1.0, 0.0]], np.float32), 1.0), [[1.0, 0.0]], atol=1e-9)


def test_guess_is_the_likeliest_class_and_its_confidence(monkeypatch) -> None:
    monkeypatch.setattr("model.problems.base.CHUNK", 2)
    probs = np.array([[0.8, 0.2], [0.1, 0.9], [0.5, 0.5]], np.float32)
    best, confidence = predict(SINGLE, Outputs(probs=probs), np.arange(3), ["a", "b"], {}, 2.0)
    assert best == ["a", "b", "a"]
    np.testing.assert_allclose(confidence, [2 / 3, 0.75, 0.5], rtol=1e-6)


def test_expected_errors_are_close_to_the_real_ones_and_their_interval_holds_them() -> None:
    hits = []
    for seed in range(40):
        held, truth = draws(60, 1.6, seed)
        probs, classes = draws(3000, 1.6, 1000 + seed)
        temperature = fit_temperature(held, truth)
        best, chosen = probs.argmax(axis=1), calibrate(probs, temperature.value).max(axis=1) > 0.9
        found = expected_errors(SINGLE, Outputs(probs=probs), chosen, temperature, {})
        hits.append(found.low <= int((best != classes)[chosen].sum()) <= found.high)
    assert np.mean(hits) >= 0.9


def test_expected_errors_of_many_images_are_taken_from_some(monkeypatch) -> None:
    probs, _ = draws(5000, 1.0)
    temperature = fit_temperature(*draws(500, 1.0, seed=1))
    whole = expected_errors(SINGLE, Outputs(probs=probs), np.ones(5000, bool), temperature, {})
    monkeypatch.setattr("model.evaluation.calibration.MANY", 500)
    some = expected_errors(SINGLE, Outputs(probs=probs), np.ones(5000, bool), temperature, {})
    assert some.expected == pytest.approx(whole.expected, rel=0.1)


def test_no_image_has_no_errors() -> None:
    probs, truth = draws(5, 1.0)
    found = expected_errors(SINGLE, Outputs(probs=probs), np.zeros(5, bool), fit_temperature(probs, truth), {})
    assert (found.expected, found.low, found.high) == (0, 0, 0)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(BadInput):
        fit_temperature(np.ones((3, 2), np.float32), np.zeros(2, np.int64))
