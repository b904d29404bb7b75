import subprocess
import sys

import pytest

from model.encoders.registry import ENCODERS, auto_side, encoder_info, is_encoder
from model.errors import BadInput, UnknownName


def test_a_record_stands_under_its_name():
    assert [info.name for info in ENCODERS.values()] == list(ENCODERS)


def test_auto_is_the_default_encoder():
    assert encoder_info("auto").name == "efficientnet_lite0"


def test_any_network_of_timm_is_an_encoder():
    info = encoder_info("timm:vit_small_patch14_dinov2.lvd142m")
    assert (info.name, info.network) == ("timm:vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m")
    assert (info.package, info.sha256) == (None, None)


@pytest.mark.parametrize("name", ["efficientnet", "timm:", "none", ""])
def test_encoder_info_refuses_what_it_does_not_know_with_the_choices(name):
    with pytest.raises(UnknownName, match="auto, efficientnet_lite0, none, timm:<name>"):
        encoder_info(name)


def test_is_encoder_knows_what_a_configuration_may_say():
    names = ("auto", "none", "efficientnet_lite0", "timm:resnet18", "timm:", "resnet18")
    assert [is_encoder(name) for name in names] == [True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("sizes", "side"),
    [([(32, 32)], 128), ([(159, 400)], 128), ([(400, 160)], 224), ([(100, 100), (1000, 300), (640, 480)], 224)],
)
def test_large_images_get_the_larger_side(sizes, side):
    assert auto_side(sizes) == side


def test_a_side_needs_an_image():
    with pytest.raises(BadInput, match="no image size"):
        auto_side([])


def test_the_registry_loads_no_torch():
    code = "import sys, model.encoders.registry, model.learners.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
