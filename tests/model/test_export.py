"""An exported model, used as people use it: by the script in the docs, with ONNX Runtime alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from support.exported import label_folder, script_of_the_guide

from model.data.bank import ImageBank
from model.data.decoding import Sides, decode, decode_with_depth
from model.data.features import FeatureBank
from model.errors import BadInput
from model.export import PROGRAMS, export
from model.learners.base import PoolImages
from model.learners.finetune import FinetunedModel
from model.learners.fitting import fit, load_model
from model.learners.own_network import FitSettings, Learner, fit_network
from model.learners.registry import LEARNERS
from model.problems import problem
from model.problems.single_label import calibrate

SIDE = 16
CLASSES = ["left", "right <ä>"]


def draw(path: Path, number: int, size: tuple[int, int], generator: np.random.Generator) -> None:
    """Write a noisy picture of (height, width) pixels whose left half is bright where its number is even."""
    height, width = size
    pixels = generator.integers(0, 90, (height, width, 3), dtype=np.uint8)
    half = slice(0, width // 2) if number % 2 == 0 else slice(width // 2, width)
    pixels[:, half] += 150
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder with weights, their exports at temperature 2, and pictures of several sizes."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    bank = ImageBank.create(folder / "bank", SIDE)
    for number in range(24):
        path = folder / "images" / f"{number:02d}.png"
        draw(path, number, generator.integers(12, 60, 2), generator)
        bank.append(decode(path.read_bytes(), SIDE)[None])
    labels = np.arange(24) % 2
    settings, files = FitSettings(epochs=3, device="cpu"), {"out": folder / "m.pt", "checkpoint": folder / "c.pt"}
    fit_network(bank, np.arange(24), labels, problem("single_label"), CLASSES, settings, **files)
    export(folder / "m.pt", CLASSES, 2.0, onnx=folder / "m.onnx", safetensors=folder / "m.safetensors")
    return folder


def test_onnx_says_what_the_learner_says_at_that_temperature(exported: Path) -> None:
    import onnxruntime

    probs = Learner.load(exported / "m.pt", device="cpu").predict(ImageBank.open(exported / "bank")).probs
    model = onnxruntime.InferenceSession(exported / "m.onnx")
    for number, expected in enumerate(calibrate(probs, 2.0)):
        pixels = np.asarray(Image.open(exported / "images" / f"{number:02d}.png"))
        (found,) = model.run(None, {"image": pixels})
        np.testing.assert_allclose(found, expected, atol=0.01)  # two ways to shrink a picture


def test_both_files_carry_the_label_names(exported: Path) -> None:
    import onnxruntime

    onnx = onnxruntime.InferenceSession(exported / "m.onnx").get_modelmeta().custom_metadata_map
    with safe_open(exported / "m.safetensors", "pt") as file:
        bare = file.metadata()
        names = set(file.keys())
    for about in (onnx, bare):
        assert json.loads(about["classes"]) == CLASSES
        assert (about["problem"], json.loads(about["decoding"])) == ("single_label", {})
        assert (about["side"], about["network"], about["temperature"]) == ("16", "compact", "2.0")
    assert {"head.weight", "head.bias"} <= names


def test_the_script_of_the_guide_labels_a_folder(exported: Path, tmp_path: Path) -> None:
    assert len([line for line in script_of_the_guide().splitlines() if line.strip()]) <= 17
    rows = label_folder(exported / "m.onnx", exported / "images", tmp_path)
    assert [row[0] for row in rows] == [f"{number:02d}.png" for number in range(24)]
    assert all(row[1] in CLASSES and 0.5 <= float(row[2]) <= 1 for row in rows)


def test_names_that_do_not_fit_the_model_are_refused(exported: Path) -> None:
    with pytest.raises(BadInput, match="2 classes, 3 names"):
        export(exported / "m.pt", ["a", "b", "c"], 1.0, onnx=exported / "x", safetensors=exported / "y")


@pytest.fixture(scope="module", params=["linear", "finetune"])
def exported_head(request, tmp_path_factory, encoder, encoders) -> Path:
    """A folder with a model on an encoder, its exports at temperature 2, and pictures of several sizes."""
    folder = tmp_path_factory.mktemp("head")
    (folder / "images").mkdir()
    generator = np.random.default_rng(1)
    bank = ImageBank.create(folder / "bank", SIDE)
    features = FeatureBank.create(folder / "features", encoder.name, encoder.side, encoder.dim, encoder.last)
    width = encoder.activations
    activations = FeatureBank.create(folder / "activations", encoder.name, encoder.side, width, width)
    for number in range(12):
        path = folder / "images" / f"{number:02d}.png"
        draw(path, number, generator.integers(140, 260, 2), generator)
        image = decode_with_depth(path.read_bytes(), Sides(SIDE, encoder.side))
        assert image.large is not None
        bank.append(image.pixels[None])
        for kept, rows in zip((features, activations), encoder.activate(image.large[None]), strict=True):
            kept.write(np.array([number]), rows)
    labels, settings = np.arange(12) % 2, FitSettings(learner=request.param, device="cpu")
    files = {"out": folder / "m.pt", "checkpoint": folder / "c.pt"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.learners.finetune.EPOCHS", 1.0)
        fit(pool_of(folder, encoders), np.arange(12), labels, problem("single_label"), CLASSES, settings, **files)
    files = {"onnx": folder / "m.onnx", "safetensors": folder / "m.safetensors"}
    export(folder / "m.pt", CLASSES, 2.0, **files, encoders=encoders)
    return folder


def pool_of(folder: Path, encoders: Path) -> PoolImages:
    features, activations = (FeatureBank.open(folder / name) for name in ("features", "activations"))
    return PoolImages(ImageBank.open(folder / "bank"), features, encoders=encoders, activations=activations)


def test_a_model_on_an_encoder_is_exported_with_it_inside(exported_head: Path, encoders: Path) -> None:
    import onnxruntime

    trained = load_model(exported_head / "m.pt", device="cpu")
    probs = trained.predict_pool(pool_of(exported_head, encoders)).probs
    assert probs is not None
    model = onnxruntime.InferenceSession(exported_head / "m.onnx")
    for number, expected in enumerate(calibrate(probs, 2.0)):
        pixels = np.asarray(Image.open(exported_head / "images" / f"{number:02d}.png"))
        (found,) = model.run(None, {"image": pixels})
        np.testing.assert_allclose(found, expected, atol=0.02)  # two ways to shrink a picture
    about = model.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == CLASSES
    assert (about["network"], about["side"]) == ("efficientnet_lite0", "128")
    with safe_open(exported_head / "m.safetensors", "pt") as file:
        names = set(file.keys())
    assert {"heads.0.weight", "heads.0.bias", "heads.0.mean"} <= names
    assert ("tuned.head.weight" in names) == isinstance(trained, FinetunedModel)


def test_the_script_of_the_guide_labels_a_folder_by_a_model_on_an_encoder_too(
    exported_head: Path, tmp_path: Path
) -> None:
    rows = label_folder(exported_head / "m.onnx", exported_head / "images", tmp_path)
    assert [row[1] for row in rows] == [CLASSES[number % 2] for number in range(12)]


def test_models_of_every_learner_can_be_exported() -> None:
    assert set(PROGRAMS) == set(LEARNERS)
