import numpy as np
import pytest
from PIL import Image

from model.errors import BadInput, ModelError
from model.lab.arguments import check
from model.lab.experiment import ExperimentConfig
from model.lab.sources import FOREIGN, TEST, TRAIN, load_source


def folder_of(root, *names, n=4):
    generator = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(n):
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(root / name / f"{number}.png")
    return str(root)


def test_images_that_cannot_be_decoded_are_named_and_the_rest_counted(tmp_path):
    data = folder_of(tmp_path, "cat", "dog")
    for number in range(12):
        (tmp_path / "cat" / f"broken-{number:02d}.png").write_bytes(b"nothing")
    said = []
    source = load_source(data, None, said.append)
    assert len(source.images.train) + len(source.images.test) == 8
    assert said[0].startswith("left out cat/broken-00.png: the file is a text, not an image")
    assert len(said) == 11
    assert said[-1].startswith("left out 2 more images")


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "test", "val"), ("train",)])
def test_a_folder_of_splits_is_not_one_of_classes(tmp_path, names):
    with pytest.raises(BadInput, match="are splits"):
        load_source(folder_of(tmp_path, *names), None, print)


def test_a_class_may_be_called_train(tmp_path):
    assert load_source(folder_of(tmp_path, "train", "bus"), None, print).images.classes == ("bus", "train")


def test_a_folder_without_classes_has_nothing_to_ask(tmp_path):
    folder_of(tmp_path, "cat")
    with pytest.raises(BadInput, match="0 images of a class to ask"):
        load_source(str(tmp_path / "cat"), None, print)


def test_the_set_that_is_mixed_in_has_the_side_of_the_first(tmp_path):
    data, other = folder_of(tmp_path / "a", "cat", "dog"), folder_of(tmp_path / "b", "x", n=8)
    assert load_source(data, None, print).foreign.shape == (0, 16, 16, 3)
    assert (lambda source: (source.foreign.shape, source.mixed))(load_source(data, other, print)) == ((6, 16, 16, 3), 6)
    assert load_source(data, f"{other}:3", print).mixed == 3
    with pytest.raises(BadInput, match="has 6 images, not 7"):
        load_source(data, f"{other}:7", print)


def test_pretrained_weights_that_cannot_be_had_are_missed_at_once(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(ModelError, match="could not be downloaded"):
        check(ExperimentConfig(data="digits", rounds=1, k=1), {"pretext", "pretrained"}, "cpu")


class Shades:
    """An encoder whose features are the mean shade of an image and its side."""

    name, side, dim, last = "shades", 128, 2, 1

    def __init__(self):
        self.embedded = 0

    def embed(self, images):
        self.embedded += len(images)
        assert images.shape[1:] == (self.side, self.side, 3)
        return np.stack([images.mean(axis=(1, 2, 3)), np.full(len(images), self.side)], axis=1).astype(np.float16)


def shaded(root, shades, size):
    for number, shade in enumerate(shades):
        (root / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (shade,) * 3).save(root / "a" / f"{number}.png")
    return str(root)


@pytest.mark.parametrize("size", [(8, 8), (300, 300)])  # scaled up from the bank's side, and decoded anew
def test_features_are_those_of_the_images_of_the_pool_whatever_set_they_come_from(tmp_path, monkeypatch, size):
    encoder = Shades()
    monkeypatch.setattr("model.lab.sources.open_encoder", lambda *_: encoder)
    data, other = shaded(tmp_path / "a", range(0, 40, 5), size), shaded(tmp_path / "b", range(100, 180, 10), (8, 8))
    source = load_source(data, other, print)
    own, foreign = source.images.train[:, 0, 0, 0].astype(float), source.foreign[:, 0, 0, 0].astype(float)
    parts = {TRAIN: np.array([4, 1]), FOREIGN: np.array([0, 3, 5])}
    files = {"cache": tmp_path / "cache", "device": "cpu"}
    bank, _ = source.embedded("shades", parts, folder=tmp_path / "pool", **files)
    assert bank.gather(np.arange(5))[:, 0].tolist() == [*own[[4, 1]], *foreign[[0, 3, 5]]]
    test, _ = source.embedded("shades", {TEST: np.array([1])}, folder=tmp_path / "test", **files)
    assert test.gather(np.array([0]))[0, 0] == source.images.test[1, 0, 0, 0]
    assert encoder.embedded == 6
    # Another seed's pool embeds only what no pool had.
    source.embedded("shades", {TRAIN: np.array([1, 2])}, folder=tmp_path / "again", **files)
    source.embedded("shades", parts, folder=tmp_path / "pool", **files)
    assert encoder.embedded == 7
