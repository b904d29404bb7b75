"""Encoders as they are used: engines that agree, and images that do not fit."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.images import noise

from model.encoders.encoder import PREPARED, load_feature_network, open_encoder, open_top
from model.encoders.registry import ENCODERS
from model.errors import BadInput

LITE0 = ENCODERS["efficientnet_lite0"]


@pytest.fixture(scope="module")
def network(encoders):
    return load_feature_network(LITE0, encoders, 128)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """A folder with random weights of small networks of timm."""
    import timm

    folder = tmp_path_factory.mktemp("by-hand")
    for name in ("test_resnet", "test_vit", "test_convnext"):
        torch.manual_seed(0)
        save_file(timm.create_model(name, pretrained=False).state_dict(), folder / f"{name}.safetensors")
    return folder


def test_onnxruntime_gives_the_features_of_the_torch_module(encoder, network):
    images = noise(20, 128)  # more than a minibatch
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    features = encoder.embed(images)
    assert (features.dtype, features.shape, encoder.engine) == (np.float16, (20, encoder.dim), "onnxruntime")
    np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_features_are_the_pooled_last_layer_and_the_means_of_the_stages(encoder, network):
    images = torch.from_numpy(noise(3, 128))
    with torch.inference_mode():
        pixels = (images.permute(0, 3, 1, 2).float() - 127) / 128
        last = network.network.forward_head(network.network.forward_features(pixels), pre_logits=True)
        means = torch.cat([stage.mean(dim=(2, 3)) for stage in network.maps(images)], dim=1)
        features = network(images)
    assert (encoder.last, encoder.dim) == (1280, 1280 + means.shape[1]) == network.widths(128)[::-1]
    torch.testing.assert_close(features, torch.cat([last, means], dim=1))


def test_what_the_last_block_is_given_comes_by_the_same_pass_and_makes_the_last_layer(encoder, network):
    images = noise(20, 128)
    features, activations = encoder.activate(images)
    np.testing.assert_array_equal(features, encoder.embed(images))
    assert (activations.dtype, activations.shape, encoder.activations) == (np.float16, (20, 3072), 3072)
    top = network.top(128)
    assert top.shape == (192, 4, 4)
    given = torch.from_numpy(activations).float().view(20, *top.shape)
    for block in (top, top.folded(), open_top(LITE0, 128, None)):
        with torch.inference_mode():
            last = block(given).numpy()
        np.testing.assert_allclose(last, features[:, : encoder.last], rtol=2e-2, atol=2e-3 * np.abs(last).max())
    assert not [part for part in top.folded().modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert [part for part in top.modules() if isinstance(part, torch.nn.BatchNorm2d)], "the network stays as it is"


def test_the_last_block_of_a_residual_network_is_found_and_that_of_others_is_none(by_hand):
    assert load_feature_network(_info("test_resnet"), by_hand, 32).top(32).shape[1:] == (2, 2)
    assert load_feature_network(_info("test_vit"), by_hand, 64).top(64) is None
    encoder = open_encoder.__wrapped__("timm:test_convnext", 64, by_hand, threads=1)
    assert encoder.activations == 0
    assert encoder.embed(noise(2, 64)).shape == (2, encoder.dim)
    with pytest.raises(BadInput, match="the last block of 'timm:test_convnext' cannot be separated"):
        encoder.activate(noise(2, 64))


def test_a_network_that_an_older_release_has_prepared_is_prepared_again(by_hand):
    open_encoder.__wrapped__("timm:test_resnet", 64, by_hand, threads=1)
    (prepared,) = by_hand.glob("test_resnet-64-*.onnx")
    old = by_hand / prepared.name.replace(f"-{PREPARED}-", "-")
    assert old != prepared
    prepared.rename(old)
    assert open_encoder.__wrapped__("timm:test_resnet", 64, by_hand, threads=1).activations > 0
    assert prepared.exists()


def test_an_image_has_the_same_features_in_any_company(encoder):
    images = noise(18, 128, seed=1)
    np.testing.assert_allclose(encoder.embed(images)[17:], encoder.embed(images[17:]), rtol=5e-3, atol=5e-3)


def test_no_images_have_no_features(encoder):
    assert encoder.embed(noise(0, 128)).shape == (0, encoder.dim)


@pytest.mark.parametrize("images", [noise(1, 96), noise(1, 128)[0], noise(1, 128).astype(np.float32)])
def test_other_images_are_refused(encoder, images):
    with pytest.raises(BadInput, match="takes uint8 images of"):
        encoder.embed(images)


def test_a_prepared_encoder_is_opened_without_torch(encoders):
    code = (
        "import sys; from pathlib import Path; from model.encoders.encoder import open_encoder\n"
        "print(open_encoder('auto', 128, Path(sys.argv[1])).dim); sys.exit('torch' in sys.modules)"
    )
    opened = subprocess.run([sys.executable, "-c", code, str(encoders)], capture_output=True, text=True, check=True)
    assert int(opened.stdout) > 1280


def test_a_prepared_network_that_is_damaged_is_prepared_again(by_hand):
    first = open_encoder.__wrapped__("timm:test_resnet", 32, by_hand, threads=1)
    (prepared,) = by_hand.glob("test_resnet-32-*.onnx")
    prepared.write_bytes(prepared.read_bytes()[:1000])
    again = open_encoder.__wrapped__("timm:test_resnet", 32, by_hand, threads=1)
    np.testing.assert_array_equal(again.embed(noise(2, 32)), first.embed(noise(2, 32)))
    assert first.embed(noise(2, 32)).std() > 0


def test_a_network_of_timm_is_given_pixels_as_it_was_trained(by_hand):
    import timm

    module = load_feature_network(_info("test_resnet"), by_hand, 32)
    config = timm.get_pretrained_cfg("test_resnet")
    normalized = module.normalized(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))[0, :, 0, 0]
    expected = [(1 - mean) / std for mean, std in zip(config.mean, config.std, strict=True)]
    assert normalized.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_network_of_patches_takes_another_side_than_it_was_trained_on(by_hand):
    module = load_feature_network(_info("test_vit"), by_hand, 64)
    assert module(torch.from_numpy(noise(2, 64))).shape == (2, module.widths(64)[0])


@pytest.mark.parametrize("side", [8, 40])
def test_images_that_no_patch_fits_into_are_refused(by_hand, side):
    with pytest.raises(BadInput, match=f"'timm:test_vit' cannot take images of {side} pixels: .*patch size"):
        open_encoder("timm:test_vit", side, by_hand)


def _info(network):
    from model.encoders.registry import encoder_info

    return encoder_info(f"timm:{network}")
