import numpy as np
import pytest
from PIL import Image

from model.errors import BadInput, ModelError
from model.lab.arguments import check
from model.lab.experiment import ExperimentConfig
from model.lab.sources import load_source


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
    assert said[0].startswith("left out cat/broken-00.png: the file is not an image")
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
