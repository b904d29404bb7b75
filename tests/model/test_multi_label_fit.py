"""A multi-label model from labels to an exported file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from model.data.bank import ImageBank
from model.data.decoding import decode
from model.errors import BadInput
from model.export import export
from model.learners.own_network import FEWEST_IN_FOLD, RECIPES, FitSettings, Learner, fit_network
from model.problems import PROBLEMS
from model.problems.multi_label import calibrate
from model.training.loop import read_weights

MULTI = PROBLEMS["multi_label"]
CLASSES = ["red", "green <ä>", "blue"]
SIDE, LABELED, N = 16, 60, 300
SETTINGS = FitSettings(init="scratch", device="cpu", epochs=10)


def pictures(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return grey pictures with a patch of the colour of each of their classes, and which classes are there (n, 3)."""
    generator = np.random.default_rng(seed)
    there = (generator.random((n, 3)) < (0.5, 0.35, 0.2)).astype(np.float32)
    images = np.full((n, SIDE, SIDE, 3), 100.0)
    for image, classes in zip(images, there, strict=True):
        for colour in generator.permutation(np.flatnonzero(classes)):
            row, column = generator.integers(0, SIDE - 5, 2)
            image[row : row + 6, column : column + 6] = np.eye(3)[colour] * 200 + 20
    return (images + generator.normal(0, 15, images.shape)).clip(0, 255).astype(np.uint8), there


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multi")
    images, there = pictures(N)
    bank = ImageBank.create(folder / "bank", SIDE)
    bank.append(images)
    shares = []
    files = {"out": folder / "m.pt", "checkpoint": folder / "c.pt", "progress": shares.append}
    fit_network(bank, np.arange(LABELED), there[:LABELED], MULTI, CLASSES, SETTINGS, **files)
    return folder, bank, there, shares


def named(there: np.ndarray) -> list[list[str]]:
    return [[name for name, present in zip(CLASSES, row, strict=True) if present] for row in there]


def test_a_model_of_few_labels_beats_every_prediction_that_is_the_same_for_all(fitted) -> None:
    folder, bank, there, _ = fitted
    learner, targets = Learner.load(folder / "m.pt", device="cpu"), named(there[LABELED:])
    reached = learner.evaluate(bank, np.arange(LABELED, N), targets, CLASSES)
    fixed = [["red"], ["red", "green <ä>"], [], CLASSES]
    trivial = max(float(np.mean([MULTI.quality(answer, target) for target in targets])) for answer in fixed)
    assert reached > trivial + 0.2


def test_confidence_is_about_the_mean_quality(fitted) -> None:
    folder, bank, there, _ = fitted
    learner, rest = Learner.load(folder / "m.pt", device="cpu"), np.arange(LABELED, N)
    outputs = learner.predict(bank)
    expected = float(MULTI.confidence(outputs, rest, learner.decoding, 1.0).mean())
    assert learner.evaluate(bank, rest, named(there[LABELED:]), CLASSES) == pytest.approx(expected, abs=0.15)


def test_the_decoding_is_chosen_and_kept_with_the_weights(fitted) -> None:
    folder, *_ = fitted
    thresholds = Learner.load(folder / "m.pt", device="cpu").decoding["thresholds"]
    assert len(thresholds) == 3
    assert thresholds != [0.5] * 3


def test_progress_counts_the_folds_and_no_checkpoint_is_left(fitted) -> None:
    folder, *_, shares = fitted
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert any(0 < share < 0.25 for share in shares)
    assert not list(folder.glob("c*.pt"))


def test_few_labels_keep_the_default_decoding(fitted, tmp_path) -> None:
    _, bank, there, _ = fitted
    n = FEWEST_IN_FOLD * MULTI.folds - 1
    files = {"out": tmp_path / "m.pt", "checkpoint": tmp_path / "c.pt"}
    fit_network(bank, np.arange(n), there[:n], MULTI, CLASSES, replace(SETTINGS, epochs=1), **files)
    assert Learner.load(tmp_path / "m.pt", device="cpu").decoding == {}


def test_a_fit_that_was_stopped_in_a_fold_ends_in_the_same_model(fitted, tmp_path, monkeypatch) -> None:
    _, bank, there, _ = fitted
    often = replace(RECIPES["auto"], plan=replace(RECIPES["auto"].plan, checkpoint_s=0.0))
    monkeypatch.setitem(RECIPES, "auto", often)
    monkeypatch.setattr("model.training.loop.REPORT_EVERY_S", 0.0)

    def run(out, progress):
        files = {"out": tmp_path / out, "checkpoint": tmp_path / f"{out}-c.pt", "progress": progress}
        fit_network(bank, np.arange(36), there[:36], MULTI, CLASSES, replace(SETTINGS, epochs=3), **files)
        return read_weights(tmp_path / out)

    def stop(share):
        if share > 0.4:  # in the second of three folds
            raise RuntimeError("stop")

    undisturbed = run("whole.pt", lambda share: None)
    with pytest.raises(RuntimeError, match="stop"):
        run("stopped.pt", stop)
    shares = []
    resumed = run("stopped.pt", shares.append)
    assert shares[1] > 0.25  # the first fold is not trained again
    assert resumed["decoding"] == undisturbed["decoding"]
    assert all(torch.equal(resumed["module"][key], value) for key, value in undisturbed["module"].items())


def test_what_only_one_posterior_gives_is_refused(fitted, tmp_path) -> None:
    folder, bank, there, _ = fitted
    with pytest.raises(BadInput, match="multi_label do not give mutual_information"):
        fit_network(
            bank, np.arange(9), there[:9], MULTI, CLASSES, replace(SETTINGS, needs=frozenset({"mutual_information"})),
            out=tmp_path / "m.pt", checkpoint=tmp_path / "c.pt",
        )  # fmt: skip
    with pytest.raises(BadInput, match="not trained to give probs"):
        Learner.load(folder / "m.pt", device="cpu").predict(bank, needs=frozenset({"probs"}))


def test_exported_files_say_what_the_learner_says_at_that_temperature(fitted, tmp_path) -> None:
    import onnxruntime

    folder, *_ = fitted
    onnx, bare = tmp_path / "m.onnx", tmp_path / "m.safetensors"
    export(folder / "m.pt", CLASSES, 2.0, onnx=onnx, safetensors=bare)
    learner, model = Learner.load(folder / "m.pt", device="cpu"), onnxruntime.InferenceSession(onnx)
    about = model.get_modelmeta().custom_metadata_map
    with safe_open(bare, "pt") as file:
        assert {key: file.metadata()[key] for key in about} == about
    assert (about["problem"], json.loads(about["classes"])) == ("multi_label", CLASSES)
    thresholds = np.array(json.loads(about["decoding"])["thresholds"])
    for number, pixels in enumerate(pictures(5, seed=9)[0]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        bank = ImageBank.create(tmp_path / f"bank-{number}", SIDE)
        bank.append(decode(path.read_bytes(), SIDE)[None])
        outputs = learner.predict(bank)
        (probabilities,) = model.run(None, {"image": pixels})
        np.testing.assert_allclose(probabilities, calibrate(outputs.class_probs, 2.0)[0], atol=0.01)
        exported = [name for name, chosen in zip(CLASSES, probabilities >= thresholds, strict=True) if chosen]
        assert exported == MULTI.decode(outputs, np.arange(1), CLASSES, learner.decoding)[0]
