"""The records of the registries agree with the code that they name, and with the page that shows them."""

import subprocess
import sys
from pathlib import Path

import pytest

from backend.config import CHOICES
from model.networks.backbones import build_backbone
from model.networks.registry import INITS, NETWORK_NAMES, NETWORKS
from model.pretext.base import PretextTask
from model.pretext.registry import PRETEXT_TASKS
from model.pretext.run import PRETEXT_RECIPES
from model.training.recipes import RECIPES
from model.training.registry import JOINTS, RECIPE_INFOS

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("registry", [PRETEXT_TASKS, NETWORKS, INITS, RECIPE_INFOS, JOINTS])
def test_a_record_stands_under_its_name(registry):
    assert [info.name for info in registry.values()] == list(registry)


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_the_record_of_a_pretext_task_names_its_code(name):
    task = PRETEXT_TASKS[name].load()
    assert isinstance(task, PretextTask)
    assert task.name == name


@pytest.mark.parametrize("name", NETWORKS)
def test_the_record_of_a_network_has_its_number_of_parameters(name):
    backbone = build_backbone(name, 32, seed=0)
    millions = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    assert NETWORKS[name].parameters == pytest.approx(millions, abs=0.05)


def test_both_networks_of_a_project_have_a_recipe_of_every_name():
    assert set(RECIPE_INFOS) == set(RECIPES) == set(PRETEXT_RECIPES)


@pytest.mark.parametrize(
    ("init", "network", "fits"),
    [("pretrained", "auto", True), ("pretrained", "resnet18", True), ("pretrained", "compact", False),
     ("scratch", "compact", True), ("pretext", "resnet18", True)],
)  # fmt: skip
def test_only_networks_with_such_weights_fit_an_init(init, network, fits):
    assert INITS[init].fits(network) is fits


def test_the_configuration_takes_the_names_of_the_registries():
    assert CHOICES["pretext"] == tuple(PRETEXT_TASKS)
    assert CHOICES["network"] == NETWORK_NAMES == ("auto", *NETWORKS)
    assert (CHOICES["init"], CHOICES["recipe"], CHOICES["joint"]) == (tuple(INITS), tuple(RECIPE_INFOS), tuple(JOINTS))


def test_the_registries_and_the_configuration_load_no_torch():
    modules = "backend.config, model.pretext.registry, model.networks.registry, model.training.registry"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_the_page_has_a_row_for_every_pretext_task_with_the_words_of_its_record():
    _, _, section = PAGE.partition("### Pretext tasks")
    rows = [line for line in section.partition("###")[0].splitlines() if line.startswith("| `")][1:]
    assert rows == [
        f"| `{info.name}` | {info.question} | {info.source} | {info.training:g}, {info.scoring:g} |"
        for info in PRETEXT_TASKS.values()
    ]


def test_the_page_names_every_network_init_recipe_and_joint_training():
    keys = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}
    for key, names in {"network": NETWORKS, "init": INITS, "recipe": {"paper"}}.items():
        assert all(f"`{name}`" in keys[key] for name in names), key
    _, _, section = PAGE.partition("### Joint training")
    joints = [line.split("|") for line in section.partition("###")[0].splitlines() if line.startswith("| `")][1:]
    found = [(row[1].strip(" `"), row[3].strip(), row[4].strip()) for row in joints]
    assert found == [(info.name, info.source, f"{info.training:g}") for info in JOINTS.values()]
    smallest = PRETEXT_TASKS["jigsaw"].smallest_side
    assert f"from {smallest} pixels on" in keys["jigsaw"]
