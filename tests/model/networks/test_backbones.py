import pytest
import torch

from model.errors import BadInput, ModelError, UnknownName
from model.networks.backbones import NETWORKS, Network, build_backbone, load_imagenet, resolve
from model.networks.initialization import choose_start
from model.networks.main import Parts
from model.problems import problem


@pytest.mark.parametrize("side", [16, 32, 64, 96])
@pytest.mark.parametrize("name", NETWORKS)
def test_backbone_gives_an_embedding_an_image(name, side):
    backbone = build_backbone(name, side, seed=0).eval()
    with torch.inference_mode():
        assert backbone(torch.rand(2, 3, side, side)).shape == (2, backbone.dim)


@pytest.mark.parametrize("name", NETWORKS)
def test_backbone_draws_its_weights_from_its_seed_alone(name):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second, other = (build_backbone(name, 32, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", NETWORKS)
def test_backbone_sees_a_minibatch_as_its_images_one_by_one(name):
    backbone = build_backbone(name, 16, seed=0).eval()
    images = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        alone = torch.cat([backbone(image.unsqueeze(0)) for image in images])
        torch.testing.assert_close(backbone(images), alone, rtol=1e-3, atol=1e-4)


def test_resnet18_is_the_cifar_variant_up_to_64_pixels():
    small, large = (build_backbone("resnet18", side, seed=0).layers for side in (64, 96))
    assert (small.conv1.kernel_size, small.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(small.maxpool, torch.nn.Identity)
    assert (large.conv1.kernel_size, large.conv1.stride) == ((7, 7), (2, 2))
    # The paper's ResNet-18 for CIFAR has 11,173,962 parameters with ten classes (5,130 of them in the head).
    assert sum(p.numel() for p in small.parameters()) == 11_173_962 - 5_130


def test_network_is_backbone_and_head():
    network = Network(build_backbone("compact", 16, seed=0), 4).eval()
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), network.head(network.backbone(images)))


def test_resolve_answers_auto_and_refuses_unknown_names():
    assert resolve("auto") == "compact"
    assert resolve("resnet18") == "resnet18"
    with pytest.raises(UnknownName, match="auto, compact, resnet18"):
        resolve("transformer")


def test_imagenet_weights_that_cannot_be_had_are_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(ModelError, match=r"could not be downloaded.*resnet18-.*\.pth into .*checkpoints"):
        load_imagenet(build_backbone("resnet18", 96, seed=0))


@pytest.fixture
def imagenet(monkeypatch, tmp_path):
    """Weights where torchvision looks for what it has downloaded: of its own network, drawn at random."""
    from torchvision.models import ResNet18_Weights, resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = resnet18().state_dict()
    torch.save(state, folder / ResNet18_Weights.DEFAULT.url.rpartition("/")[2])
    return state


def test_imagenet_weights_fill_the_backbone(imagenet):
    backbone = build_backbone("resnet18", 96, seed=0)
    load_imagenet(backbone)
    own = backbone.layers.state_dict()
    assert set(imagenet) - set(own) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, imagenet[key]) for key, value in own.items())


def test_imagenet_weights_are_refused_where_the_first_layer_is_another(imagenet):
    with pytest.raises(BadInput, match="for images of 96 pixels or more"):
        load_imagenet(build_backbone("resnet18", 32, seed=0))


def test_small_images_are_enlarged_for_imagenet_weights(imagenet):
    start = choose_start("pretrained", "auto", None, 32)
    network = start.build(32, problem("single_label"), 3, seed=0, parts=Parts()).eval()
    own = network.backbone.layers.state_dict()
    assert all(torch.equal(value, imagenet[key]) for key, value in own.items())
    images = torch.rand(2, 3, 32, 32)
    large = torch.nn.functional.interpolate(images, size=(96, 96), mode="bilinear")
    plain = build_backbone("resnet18", 96, seed=0).eval()
    plain.load_state_dict(network.backbone.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(network.backbone(images), plain(large))
        torch.testing.assert_close(network.backbone.with_levels(images)[1][-1], plain(large))


def test_imagenet_weights_are_refused_for_another_backbone(imagenet):
    with pytest.raises(BadInput, match="those of resnet18"):
        load_imagenet(build_backbone("compact", 32, seed=0))
