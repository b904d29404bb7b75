"""A decoder on an encoder's maps learns where things are, from few masks."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from PIL import Image
from support.exported import label_folder, pool_of_pictures
from support.labelings import IMAGE, view

from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.labeling.rle import decode_mask
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.data.masks import IGNORED, fitted, pack, unpack
from model.data.views import ViewBank
from model.errors import BadInput, ModelError
from model.export import export
from model.learners import decoder
from model.learners.base import PoolImages, evaluate
from model.learners.decoder import PLACE_WIDTH, certainty, class_weights, recoloured
from model.learners.fitting import fit, load_model
from model.learners.settings import FitSettings
from model.problems import problem
from model.problems.segmentation import ENTROPY, EXPECTED, GRID, LEAST, MARGIN, TOP, VIEW
from model.querying.outputs import FEATURES

OF = problem("segmentation")
CLASSES = ["disc", "square"]
WIDTH, HEIGHT, IMAGES, LABELS = 320, 224, 18, 10


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    """Shapes of one colour each are learned in fewer steps than scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "STEPS", 120)
        yield


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, list[dict]]:
    """Views of red discs and blue squares on noise, and their masks."""
    generator = np.random.default_rng(0)
    views = np.full((IMAGES, VIEW, VIEW, 3), 127, np.uint8)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    masks = []
    for own in views:
        content = generator.normal(120, 20, (HEIGHT, WIDTH, 3))
        pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
        x, y = generator.integers(40, 120), generator.integers(40, HEIGHT - 40)
        pixels[(columns - x) ** 2 + (rows - y) ** 2 < 36**2] = 1
        x, y = generator.integers(180, WIDTH - 80), generator.integers(10, HEIGHT - 80)
        pixels[y : y + 64, x : x + 64] = 2
        content[pixels == 1] = generator.normal((200, 40, 40), 10)
        content[pixels == 2] = generator.normal((40, 40, 210), 10)
        own[:HEIGHT, :WIDTH] = content.clip(0, 255)
        masks.append(pack(pixels, CLASSES))
    return views, masks


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, drawn, encoders: Path) -> PoolImages:
    folder = tmp_path_factory.mktemp("pool")
    bank = ImageBank.create(folder / "bank", 16)
    bank.append(np.zeros((IMAGES, 16, 16, 3), np.uint8))
    views = ViewBank.create(folder / "views", VIEW)
    # The last image has no view yet.
    views.write(np.arange(IMAGES - 1), drawn[0][:-1], np.tile([2 * WIDTH, 2 * HEIGHT], (IMAGES - 1, 1)))
    features = FeatureBank.create(folder / "features", "efficientnet_lite0", 128, 4, 2)
    features.write(np.arange(IMAGES), np.random.default_rng(0).random((IMAGES, 4)).astype(np.float16))
    return PoolImages(bank, features, views, encoders)


@pytest.fixture(scope="module")
def model(pool: PoolImages, drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "model.pt"
    fitted = fit_to(pool, np.arange(LABELS), drawn[1][:LABELS], out)
    assert (fitted.learner, fitted.about["encoder"]) == ("decoder", "efficientnet_lite0")
    return out


def fit_to(pool: PoolImages, indices: np.ndarray, targets: list[dict], out: Path):
    truth = OF.encode(targets, CLASSES)
    settings = FitSettings(learner="auto", device="cpu")
    return fit(pool, indices, truth, OF, CLASSES, settings, out=out, checkpoint=out.with_suffix(".ckpt"))


def test_it_finds_the_shapes_in_images_that_it_was_not_trained_on(pool: PoolImages, drawn, model: Path) -> None:
    held = np.arange(LABELS, IMAGES - 1)
    loaded = load_model(model, "cpu")
    assert evaluate(loaded, pool, held, [drawn[1][index] for index in held], CLASSES) > 0.8


def test_of_many_labels_only_drawn_ones_are_kept_in_memory(
    pool: PoolImages, drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    of = decoder._Labeled.of.__func__
    monkeypatch.setattr(decoder, "MOST_LABELS", 3)
    monkeypatch.setattr(decoder, "STEPS", 1)
    monkeypatch.setattr(
        decoder._Labeled, "of", classmethod(lambda cls, *given: kept.append(len(given[2])) or of(cls, *given))
    )
    fit_to(pool, np.arange(LABELS), drawn[1][:LABELS], tmp_path / "model.pt")
    assert kept == [3]


def test_outputs_are_letterboxed_sure_and_neutral_where_there_is_no_view(pool: PoolImages, model: Path) -> None:
    outputs = load_model(model, "cpu").predict_pool(pool, needs=frozenset({"embeddings", "places"}))
    maps, values = outputs.class_maps, outputs.values
    assert maps is not None
    assert values is not None
    assert outputs.embeddings is not None
    assert (maps.shape, maps.dtype) == ((IMAGES, GRID, GRID), np.uint8)
    content = HEIGHT * GRID // VIEW
    assert (maps[:-1, :content] != IGNORED).all()
    assert (maps[:, content:] == IGNORED).all()
    assert (maps[-1] == IGNORED).all()
    assert np.allclose(values[-1], values[:-1].mean(axis=0))
    assert ((values >= 0) & (values <= 1.0001)).all()
    assert (values[:, LEAST] <= values[:, TOP]).all()
    assert outputs.embeddings[np.arange(3)].shape == (3, 2)
    assert outputs.places is not None
    assert (outputs.places.shape, outputs.places.dtype) == ((IMAGES, (VIEW // 32) ** 2, PLACE_WIDTH), FEATURES)
    assert outputs.places[:-1].any(axis=(1, 2)).all()
    assert not outputs.places[-1].any()
    assert [len(mask["classes"]) for mask in OF.decode(outputs, np.array([0, IMAGES - 1]), CLASSES, {})] == [2, 0]


def test_its_export_gives_the_masks_of_files_of_any_size(model: Path, drawn, encoders: Path, tmp_path: Path) -> None:
    pictures = [view[:HEIGHT, :WIDTH] for view in drawn[0][:5]]
    pictures[4] = pictures[4].transpose(1, 0, 2)
    sizes = [(2 * WIDTH, 2 * HEIGHT), (501, 351), (WIDTH, HEIGHT), (100, 70), (231, 330)]
    pool = pool_of_pictures(pictures, sizes, VIEW, tmp_path, encoders)
    export(model, CLASSES, 1.5, onnx=tmp_path / "m.onnx", safetensors=tmp_path / "m.safetensors", encoders=encoders)
    session = InferenceSession(tmp_path / "m.onnx")
    about = session.get_modelmeta().custom_metadata_map
    assert (about["problem"], json.loads(about["classes"])) == ("segmentation", CLASSES)
    outputs = load_model(model, "cpu").predict_pool(pool)
    assert label_folder(tmp_path / "m.onnx", tmp_path / "images", tmp_path) == []
    for number, (size, mask) in enumerate(zip(sizes, OF.decode(outputs, np.arange(5), CLASSES, {}), strict=True)):
        pixels = np.asarray(Image.open(tmp_path / "images" / f"{number:02d}.png"))
        (found,) = session.run(None, {"image": pixels})
        assert (found.shape, found.dtype) == (pixels.shape[:2], np.uint8)
        assert (found == fitted(unpack(mask, CLASSES), size)).mean() > 0.99
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{number:02d}-mask.png")), found)
        assert number == 4 or set(np.unique(found)) == {0, 1, 2}


def test_predictions_are_the_same_each_time_and_for_single_images(pool: PoolImages, model: Path) -> None:
    loaded = load_model(model, "cpu")
    everything, some = loaded.predict_pool(pool), loaded.predict_pool(pool, np.array([7, 3]))
    assert np.array_equal(everything.class_maps[[7, 3]], some.class_maps)
    assert np.allclose(everything.values[[7, 3]], some.values, atol=1e-3)


def test_a_background_that_is_ignored_is_not_learned_measured_or_predicted(
    pool: PoolImages, drawn, tmp_path: Path
) -> None:
    """From what people painted to the regions of a prediction: each pixel has a class that somebody painted."""
    labels = "".join(f'<Label value="{name}"/>' for name in CLASSES)
    config = view(IMAGE, f'<BrushLabels name="mask" toName="image">{labels}</BrushLabels>')
    labeling, item = read_labeling(config, background=False), Item(WIDTH, HEIGHT)
    targets = [labeling.target(labeling.result(mask, item)) for mask in drawn[1][:8]]
    assert all(set(np.unique(unpack(target, CLASSES))) == {1, 2, IGNORED} for target in targets)
    fit_to(pool, np.arange(4), targets[:4], tmp_path / "model.pt")
    outputs = load_model(tmp_path / "model.pt", "cpu").predict_pool(pool, np.arange(8))
    assert outputs.class_maps is not None
    assert set(np.unique(outputs.class_maps)) == {1, 2, IGNORED}
    predictions = OF.decode(outputs, np.arange(8), CLASSES, {})
    # What is predicted where nobody painted costs nothing; by the masks with a background it does.
    assert OF.score(predictions, targets, CLASSES) > 0.8 > 0.3 > OF.score(predictions, drawn[1][:8], CLASSES)
    painted = [decode_mask(one["value"]["rle"], WIDTH, HEIGHT) for one in labeling.result(predictions[7], item)]
    assert np.logical_or.reduce(painted).all()


def test_what_cannot_be_learned_is_refused_in_one_sentence(pool: PoolImages, drawn, tmp_path: Path) -> None:
    out, masks = tmp_path / "model.pt", drawn[1]
    with pytest.raises(BadInput, match="1 of 1 labeled images have no views yet"):
        fit_to(pool, np.array([IMAGES - 1]), masks[-1:], out)
    with pytest.raises(BadInput, match="all of it is ignored"):
        fit_to(pool, np.array([0]), [pack(np.full((7, 10), IGNORED, np.uint8), CLASSES)], out)
    with pytest.raises(BadInput, match="from views of 320 pixels"):
        fit_to(PoolImages(pool.bank, pool.features), np.array([0]), masks[:1], out)
    assert not out.exists()


def test_a_damaged_model_is_said_to_be_one(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model.pt"
    broken.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        load_model(broken)


def test_certainty_of_two_pixels_by_hand() -> None:
    posteriors = torch.tensor([[0.1, 0.6], [0.7, 0.3], [0.2, 0.1]]).reshape(3, 1, 2)
    values = certainty(posteriors)
    assert values[TOP] == pytest.approx(0.65)
    assert values[MARGIN] == pytest.approx((0.5 + 0.3) / 2)
    entropy = [-sum(p * np.log(p) for p in column) / np.log(3) for column in ((0.1, 0.7, 0.2), (0.6, 0.3, 0.1))]
    assert values[ENTROPY] == pytest.approx(np.mean(entropy), abs=1e-5)
    assert values[LEAST] == pytest.approx(0.6)
    assert values[EXPECTED] == pytest.approx(0.7 / (1 + 1.0 - 0.7))  # of class 1, the only one that is predicted


def test_certainty_of_nothing_is_the_share_of_the_background() -> None:
    values = certainty(torch.tensor([[0.9, 0.8], [0.1, 0.2]]).reshape(2, 1, 2))
    assert values[EXPECTED] == pytest.approx(0.85)


def test_rare_classes_weigh_more_and_absent_ones_nothing() -> None:
    masks = np.array([[[0] * 90 + [1] * 9 + [IGNORED]]], np.uint8)
    weights = class_weights(masks, 3)
    assert weights[1] / weights[0] == pytest.approx(np.sqrt(10))
    assert (weights[2], weights[:2].mean()) == (0, pytest.approx(1))


def test_recoloured_images_keep_what_is_where() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[:, :4] = 200
    changed = recoloured(images, np.random.default_rng(0)).astype(int)
    assert (changed != images).any()
    assert (changed[:, :4].min(axis=(1, 2, 3)) > changed[:, 4:].max(axis=(1, 2, 3))).all()
