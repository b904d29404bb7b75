"""A detector on the encoder's maps: bright squares and dark discs on noise are found, counted and calibrated."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession
from PIL import Image
from safetensors import safe_open
from support.exported import label_folder, pool_of_pictures
from support.images import bank_of

from model.data.features import FeatureBank
from model.data.letterbox import Letterbox
from model.data.views import ViewBank
from model.errors import BadInput, ModelError
from model.export import export
from model.learners import detector
from model.learners.base import PoolImages, evaluate
from model.learners.detector import DetectorModel
from model.learners.fitting import fit, load_model
from model.learners.settings import FitSettings
from model.problems import PROBLEMS
from model.problems.detection import canonical

DETECTION, CLASSES = PROBLEMS["detection"], ["square", "disc"]
SIDE, WIDTH, HEIGHT = 128, 128, 96  # pixels
LABELED, IMAGES = 24, 36


def scene(generator):
    """Return a picture of up to three objects, and their boxes."""
    pixels = generator.normal(110, 12, (HEIGHT, WIDTH, 3))
    boxes, taken = [], []
    for _ in range(generator.integers(0, 5)):
        size, label = int(generator.integers(28, 36)), CLASSES[generator.integers(2)]
        x, y = int(generator.integers(0, WIDTH - size)), int(generator.integers(0, HEIGHT - size))
        if any(abs(x - other) < 44 and abs(y - above) < 44 for other, above in taken):
            continue
        taken.append((x, y))
        down, across = np.mgrid[0:size, 0:size] - (size - 1) / 2
        inside = np.ones((size, size), bool) if label == "square" else np.hypot(down, across) < size / 2
        pixels[y : y + size, x : x + size][inside] = (230, 230, 60) if label == "square" else (20, 40, 160)
        boxes.append([label, x / WIDTH, y / HEIGHT, size / WIDTH, size / HEIGHT])
    return pixels.clip(0, 255).astype(np.uint8), canonical(boxes, CLASSES)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, encoders):
    """A pool of scenes with views and targets, the last one without a view."""
    folder: Path = tmp_path_factory.mktemp("scenes")
    generator = np.random.default_rng(0)
    images, targets = zip(*(scene(generator) for _ in range(IMAGES)), strict=True)
    views = ViewBank.create(folder / "views", SIDE)
    padded = np.full((IMAGES, SIDE, SIDE, 3), 127, np.uint8)
    padded[:, :HEIGHT] = images
    known = np.arange(IMAGES - 1)
    views.write(known, padded[known], np.tile([2 * WIDTH, 2 * HEIGHT], (len(known), 1)))
    features = FeatureBank.create(folder / "features", "efficientnet_lite0", 128, 8, 4)
    features.write(np.arange(IMAGES), generator.random((IMAGES, 8), np.float32))
    bank = bank_of(folder / "bank", np.zeros((IMAGES, 8, 8, 3), np.uint8))
    return PoolImages(bank, features, views, encoders), list(targets)


@pytest.fixture(scope="module")
def fitted(scenes, tmp_path_factory):
    """The file of a detector that was trained on LABELED scenes, and what there is to say of it."""
    pool, targets = scenes
    folder = tmp_path_factory.mktemp("fitted")
    told: list[float] = []
    settings = FitSettings(learner="auto", device="cpu", epochs=8)
    about = fit(
        pool, np.arange(LABELED), DETECTION.encode(targets[:LABELED], CLASSES), DETECTION, CLASSES, settings,
        out=folder / "m.pt", checkpoint=folder / "c.pt", progress=told.append,
    )  # fmt: skip
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    assert [path.name for path in folder.iterdir()] == ["m.pt"]
    return folder / "m.pt", about


def test_objects_are_found_on_images_that_were_not_trained_on(scenes, fitted):
    pool, targets = scenes
    model = load_model(fitted[0], device="cpu")
    assert isinstance(model, DetectorModel)
    assert (fitted[1].learner, model.problem, model.classes) == ("detector", DETECTION, 2)
    rest = np.arange(LABELED, IMAGES - 1)
    quality = evaluate(model, pool, rest, [targets[index] for index in rest], CLASSES)
    nothing = np.mean([DETECTION.quality([], targets[index]) for index in rest])
    assert quality > 0.6 > nothing


def test_outputs_are_boxes_by_pool_index_sorted_by_score(scenes, fitted):
    pool, _ = scenes
    model = load_model(fitted[0], device="cpu")
    outputs = model.predict_pool(pool, needs=frozenset({"embeddings", "uncertainty", "confidence"}))
    boxes = outputs.boxes
    assert boxes.shape == (IMAGES, model.most, 6)
    assert outputs.embeddings.shape[0] == IMAGES
    assert (boxes[-1] == -1).all()  # it has no view
    scores = boxes[:, :, 4]
    assert (np.diff(scores, axis=1) <= 0).all()
    shown = boxes[scores > 0]
    assert len(shown)
    assert ((shown[:, :4] >= 0) & (shown[:, :4] <= 1)).all()
    assert (shown[:, :2] + shown[:, 2:4]).max() <= 1 + 1e-5
    assert set(shown[:, 5].tolist()) <= {0.0, 1.0}
    some = model.predict_pool(pool, np.array([3, 1])).boxes
    np.testing.assert_allclose(some, boxes[[3, 1]], atol=1e-5)


def test_its_export_gives_the_boxes_of_files_of_any_size(scenes, fitted, encoders, tmp_path):
    views = scenes[0].views.gather(np.arange(LABELED, LABELED + 6))[:, :HEIGHT, :WIDTH]
    pictures = [*views[:5], views[5].transpose(1, 0, 2), np.full((50, 50, 3), 127, np.uint8)]
    sizes = [(3 * WIDTH, 3 * HEIGHT), (301, 226), (WIDTH, HEIGHT), (90, 67), (200, 150), (120, 160), (50, 50)]
    pool = pool_of_pictures(pictures, sizes, SIDE, tmp_path, encoders)
    files = {"onnx": tmp_path / "m.onnx", "safetensors": tmp_path / "m.safetensors"}
    export(fitted[0], CLASSES, 1.5, **files, encoders=encoders)
    session, model = InferenceSession(files["onnx"]), load_model(fitted[0], device="cpu")
    about = session.get_modelmeta().custom_metadata_map
    assert (about["problem"], json.loads(about["classes"]), about["side"]) == ("detection", CLASSES, str(SIDE))
    with safe_open(files["safetensors"], "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    missing, unexpected = model.network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("fcos.backbone.") for name in missing)  # the pyramid, by another name
    expected = DETECTION.decode(model.predict_pool(pool), np.arange(len(sizes)), CLASSES, model.decoding)
    assert sum(map(len, expected)) > 5
    lines = label_folder(files["onnx"], tmp_path / "images", tmp_path)
    for number, (size, boxes) in enumerate(zip(sizes, expected, strict=True)):
        pixels = np.asarray(Image.open(tmp_path / "images" / f"{number:02d}.png"))
        found = [
            [CLASSES[label], *(corners / (*size, *size)), score]
            for corners, score, label in zip(*session.run(None, {"image": pixels}), strict=True)
        ]
        assert len(found) == len(boxes)
        for (label, *own, score), (name, left, top, width, height, shown) in zip(found, boxes, strict=True):
            assert label == name
            assert own == pytest.approx([left, top, left + width, top + height], abs=0.002)
            assert score == pytest.approx(shown, abs=0.005)
        written = [line for line in lines if line[0] == f"{number:02d}.png"]
        assert [line[1] for line in written] == [box[0] for box in found]
        assert [float(line[2]) for line in written] == pytest.approx([box[5] for box in found], abs=0.006)
        assert all(0 <= float(x) <= size[0] + 0.1 for line in written for x in (line[3], line[5]))


def test_a_fit_is_the_same_twice(scenes, fitted, tmp_path, monkeypatch):
    pool, targets = scenes
    monkeypatch.setattr(detector, "FEWEST", 100)
    settings = FitSettings(learner="detector", device="cpu", epochs=1)
    for name in "ab":
        fit(
            pool, np.arange(4), DETECTION.encode(targets[:4], CLASSES), DETECTION, CLASSES, settings,
            out=tmp_path / name, checkpoint=tmp_path / "c",
        )  # fmt: skip
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_labels_without_any_object_are_learned_too(scenes, tmp_path):
    pool, _ = scenes
    settings = FitSettings(learner="detector", device="cpu", epochs=1)
    truth = DETECTION.encode([[]] * 8, CLASSES)
    fit(pool, np.arange(8), truth, DETECTION, CLASSES, settings, out=tmp_path / "m", checkpoint=tmp_path / "c")
    model = load_model(tmp_path / "m", device="cpu")
    outputs = model.predict_pool(pool)
    everything = np.arange(IMAGES)
    assert len(DETECTION.decode(outputs, everything, CLASSES, model.decoding)) == IMAGES
    assert np.isfinite(DETECTION.confidence(outputs, everything, model.decoding, 1.0)).all()


def test_scores_that_nobody_reads_are_not_calibrated_but_their_order_is_the_same(scenes, tmp_path):
    pool, targets = scenes
    truth, models = DETECTION.encode(targets[:6], CLASSES), []
    for calibrated in (True, False):
        settings = FitSettings(learner="detector", device="cpu", epochs=2, calibrated=calibrated)
        fit(pool, np.arange(6), truth, DETECTION, CLASSES, settings, out=tmp_path / "m", checkpoint=tmp_path / "c")
        models.append(load_model(tmp_path / "m", device="cpu"))
    assert "missed" in models[0].decoding
    assert models[1].decoding == {}
    first, second = (model.predict_pool(pool, np.arange(4)).boxes for model in models)
    np.testing.assert_allclose(first[:, :, :4], second[:, :, :4], atol=1e-6)
    assert not np.allclose(first[:, :, 4], second[:, :, 4])


def test_very_many_tiny_objects_and_a_class_without_any_are_learned(scenes, tmp_path):
    pool, targets = scenes
    size = 1 / (4 * SIDE)  # a quarter of a pixel of the view, a 32nd of one of the finest map
    places = [(number % 25 / 25, number // 25 / 20) for number in range(500)]
    many = canonical([["square", x, y, size, size] for x, y in places], CLASSES)
    assert len(many) == 500
    truth = DETECTION.encode([many, *targets[1:7]], CLASSES)
    named = [*CLASSES, "never"]
    settings = FitSettings(learner="detector", device="cpu", epochs=1)
    fit(pool, np.arange(7), truth, DETECTION, named, settings, out=tmp_path / "m", checkpoint=tmp_path / "c")
    model = load_model(tmp_path / "m", device="cpu")
    outputs = model.predict_pool(pool, np.arange(8))
    assert outputs.boxes.shape == (8, 600, 6)
    assert np.isfinite(outputs.boxes).all()
    assert np.isfinite(DETECTION.uncertainty(outputs, np.arange(8))).all()


@pytest.mark.parametrize(
    ("indices", "of", "says"),
    [
        ([0, 1, 2], "detection", "3 labeled images and 2"),
        ([0, IMAGES - 1], "detection", "1 of 2 labeled images have no view"),
        ([0, 1], "single_label", "does not fit single_label"),
    ],
)
def test_labels_that_cannot_be_trained_on_are_refused(scenes, tmp_path, indices, of, says):
    pool, targets = scenes
    truth = DETECTION.encode(targets[:2], CLASSES)
    with pytest.raises(BadInput, match=says):
        detector.fit(
            pool, np.array(indices), truth, PROBLEMS[of], CLASSES, FitSettings(device="cpu"),
            out=tmp_path / "m", checkpoint=tmp_path / "c",
        )  # fmt: skip


def test_a_pool_without_views_is_refused(scenes, fitted, tmp_path):
    pool, targets = scenes
    bare, truth = PoolImages(pool.bank, pool.features), DETECTION.encode(targets[:2], CLASSES)
    with pytest.raises(BadInput, match="their aspect kept"):
        fit(
            bare, np.arange(2), truth, DETECTION, CLASSES, FitSettings(learner="auto", device="cpu"),
            out=tmp_path / "m", checkpoint=tmp_path / "c",
        )  # fmt: skip
    with pytest.raises(BadInput, match="their aspect kept"):
        load_model(fitted[0], device="cpu").predict_pool(bare)
    (tmp_path / "damaged").write_bytes(fitted[0].read_bytes()[:2000])
    with pytest.raises(ModelError, match="damaged"):
        DetectorModel.load(tmp_path / "damaged")


def test_an_object_lies_where_it_does_in_the_view_and_mirrored():
    truth = DETECTION.encode([[["disc", 0.25, 0.5, 0.25, 0.5]]], CLASSES)
    labeled = detector._Labeled([], [Letterbox(200, 100, 64)], truth)
    device = detector.pick_device("cpu")
    assert labeled.target(0, device)["boxes"].tolist() == [[16.0, 16.0, 32.0, 32.0]]
    assert labeled.target(1, device)["boxes"].tolist() == [[32.0, 16.0, 48.0, 32.0]]
    assert labeled.target(1, device)["labels"].tolist() == [1]
