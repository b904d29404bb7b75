"""The import rules of pyproject.toml name every package: a new one may not escape them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Of backend: who may use what a rule forbids to all others.
ALLOWED = {
    "only queueing knows RQ and Redis": {"backend.queueing"},
    "only store writes SQL": {"backend.store"},
    "only studio and the demo's annotator speak HTTP": {"backend.studio", "backend.demo"},
}


def contracts() -> dict[str, set[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["name"]: set(contract["source_modules"]) for contract in settings["contracts"]}


def rooms(package: str) -> set[str]:
    """The modules and packages directly below a package."""
    paths = [path for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return {f"{package}.{path.stem}" for path in paths if path.stem != "__init__"}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_rule_names_every_package_but_those_that_may(name: str) -> None:
    assert contracts()[name] == (rooms("backend") - ALLOWED[name]) | {"model"}


def test_the_laboratory_is_closed_to_every_package_but_the_shims() -> None:
    shims = {f"model.{path.stem}" for path in (ROOT / "model").glob("*.py") if "model.lab" in path.read_text()}
    assert shims == {"model.simulate", "model.cost", "model.h1", "model.report", "model.stopping"}
    named = contracts()["the product never imports the laboratory; the command-line shims alone do"]
    assert named == (rooms("model") - shims - {"model.lab"}) | {"backend"}


def test_a_worker_loads_torch_only_for_the_jobs_that_need_it() -> None:
    """The workers that advance projects and fetch images start in a second, and stay small."""
    code = (
        "import sys, backend.loop.jobs; sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
