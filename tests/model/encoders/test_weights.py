"""The weights of encoders: that each stands at its place, and what is said of those that cannot be used."""

import csv
import importlib
import io
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from model.encoders.encoder import open_encoder
from model.encoders.registry import ENCODERS, encoder_info
from model.encoders.weights import load_network, weights_path
from model.errors import WeightsMissing
from model.lab.datasets import DATA_FOLDER, DEFAULT_FOLDER

LITE0 = ENCODERS["efficientnet_lite0"]
PER_CLASS = 10
# ImageNet's numbers of what these classes of photos show.
PHOTOS = {
    "airplanes": {404, 812, 895, 908},
    "Leopards": {288, 290, 293},
    "ibis": set(range(127, 135)),
    "scorpion": {71},
    "hawksbill": {33, 34},
    "ketch": {484, 724, 780, 871, 914},
}
BUILDINGS, DAISY = {442, 449, 483, 663, 698}, 985  # bell cote, boathouse, castle, monastery, palace


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    return load_network(LITE0, tmp_path_factory.mktemp("weights"))


@torch.inference_mode()
def ranked(network, pictures):
    """Return ImageNet's classes of pictures, (n, 1000), likeliest first."""
    squares = [picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for picture in pictures]
    pixels = torch.from_numpy(np.stack([np.asarray(square, np.float32) for square in squares]))
    return network((pixels.permute(0, 3, 1, 2) - 127) / 128).argsort(dim=1, descending=True).numpy()


def test_the_default_network_knows_what_is_on_two_pictures(lite0):
    temple, flower = ranked(lite0, [Image.fromarray(picture) for picture in load_sample_images().images])
    assert len(BUILDINGS & set(temple[:5].tolist())) >= 4
    assert flower[0] == DAISY


def test_the_default_network_knows_classes_of_imagenet(lite0):
    folder = Path(os.environ.get(DATA_FOLDER) or DEFAULT_FOLDER) / "photos"
    if not folder.is_dir():
        pytest.skip(f"the photos are not at {folder}")
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with tarfile.open(folder / "photos.tar") as archive:
        for name, known in PHOTOS.items():
            paths = [row["path"] for row in rows if row["class"] == name]
            chosen = np.random.default_rng(0).permutation(paths)[:PER_CLASS]
            pictures = [Image.open(io.BytesIO(archive.extractfile(path).read())) for path in chosen]
            right = sum(int(top) in known for top in ranked(lite0, pictures)[:, 0])
            assert right >= 0.7 * PER_CLASS, name


def test_the_default_network_keeps_the_head_that_tells_classes(lite0):
    assert tuple(lite0.get_classifier().weight.shape) == (1000, 1280)
    assert not lite0.training


def package(monkeypatch, folder, *files):
    """Make a package that has these weights; return the default encoder with the weights of that package."""
    models = folder / "weights_of_a_test" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").touch()
    for path in files:
        shutil.copy(path, models)
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    return replace(LITE0, package="weights_of_a_test")


def test_a_package_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(WeightsMissing, match=r"package 'not-there', which is not installed: run 'make setup'"):
        load_network(replace(LITE0, package="not_there"), tmp_path)


def test_a_package_without_its_weights_is_said_to_have_lost_them(tmp_path, monkeypatch):
    with pytest.raises(WeightsMissing, match="has lost its weights"):
        load_network(package(monkeypatch, tmp_path), tmp_path)


def test_weights_of_a_package_with_one_other_bit_are_damaged(tmp_path, monkeypatch):
    info = package(monkeypatch, tmp_path, weights_path(LITE0, tmp_path))
    path = weights_path(info, tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsMissing, match="are damaged: run 'make setup' again"):
        load_network(info, tmp_path)
    monkeypatch.setitem(ENCODERS, LITE0.name, info)
    with pytest.raises(WeightsMissing, match="are damaged"):
        open_encoder(LITE0.name, 128, tmp_path)


def test_weights_of_a_package_for_another_network_are_refused(tmp_path):
    with pytest.raises(WeightsMissing, match="are not those of test_resnet in timm"):
        load_network(replace(LITE0, network="test_resnet"), tmp_path)


def by_hand(folder, network, of=None, **changed):
    """Put the random weights of one of timm's networks where those of ``network`` belong, and return them."""
    import timm

    torch.manual_seed(0)
    state = {**timm.create_model(of or network, pretrained=False).state_dict(), **changed}
    save_file(state, folder / f"{network}.safetensors")
    return state


def test_weights_that_were_put_there_by_hand_are_loaded(tmp_path):
    state = by_hand(tmp_path, "test_resnet")
    loaded = load_network(encoder_info("timm:test_resnet"), tmp_path).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_weights_put_there_of_another_network_are_refused(tmp_path):
    by_hand(tmp_path, "test_resnet", of="test_vit")
    with pytest.raises(WeightsMissing, match=r"test_resnet\.safetensors does not hold the weights of test_resnet: "):
        load_network(encoder_info("timm:test_resnet"), tmp_path)


@pytest.mark.parametrize("left", [0, 5, 1000])
def test_weights_put_there_in_part_are_refused(tmp_path, left):
    by_hand(tmp_path, "test_resnet")
    path = tmp_path / "test_resnet.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(WeightsMissing, match=r"test_resnet\.safetensors does not hold the weights"):
        load_network(encoder_info("timm:test_resnet"), tmp_path)


def test_a_network_that_timm_does_not_have_is_refused(tmp_path):
    with pytest.raises(WeightsMissing, match=r"timm has no network 'origami': see timm\.list_models"):
        load_network(encoder_info("timm:origami"), tmp_path)


def test_weights_that_timm_does_not_have_are_refused(tmp_path):
    with pytest.raises(WeightsMissing, match=r"timm has no such weights: .*napkin.*timm\.list_pretrained"):
        load_network(encoder_info("timm:resnet18.napkin"), tmp_path)


def test_weights_that_cannot_be_fetched_say_which_file_belongs_where(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    with pytest.raises(WeightsMissing) as refused:
        open_encoder("timm:test_resnet.r160_in1k", 128, tmp_path)
    assert "'model.safetensors' of timm/test_resnet.r160_in1k" in str(refused.value)
    assert f"at {tmp_path / 'test_resnet.r160_in1k.safetensors'}" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_fetched_are_kept(tmp_path, monkeypatch):
    """Of the hub only the answer is made up."""
    import timm

    create, asked = timm.create_model, []

    def from_hub(name, pretrained=False, cache_dir=None, **more):
        asked.append(pretrained)
        torch.manual_seed(len(asked))
        return create(name, **more)

    monkeypatch.setattr("timm.create_model", from_hub)
    monkeypatch.setattr("model.encoders.weights._reach_hub", lambda: None)
    first, second = (load_network(encoder_info("timm:test_resnet"), tmp_path).state_dict() for _ in range(2))
    assert asked == [True, False, False]
    assert all(torch.equal(first[name], value) for name, value in second.items())
