"""The whole backend on a root file system that is read-only, as compose.yml has it: nothing writes elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from ops.test_compose import image_instructions
from support.e2e_fixtures import digits  # noqa: F401 - a fixture
from support.e2e_harness import CONFIG, Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer, free_port
from support.namespaces import sealed

from backend.demo.annotator import Annotator

LINES = "Read-only file system", "Permission denied", "Traceback"


@pytest.fixture
def backend(tmp_path: Path, label_studio: LabelStudioServer) -> Iterator[Backend]:
    folder = tmp_path / "rw"
    for name in ("data", "tmp"):
        (folder / name).mkdir(parents=True)
    settings = dict(re.findall(r"(\w+)=(\S+)", " ".join(image_instructions("ENV"))))
    env = {name: settings[name] for name in ("TORCH_HOME", "XDG_CACHE_HOME", "PYTHONDONTWRITEBYTECODE")}
    env = {name: re.sub(r"^/(data|tmp)\b", rf"{folder}/\1", value) for name, value in env.items()}
    env |= {"TMPDIR": str(folder / "tmp"), "HOME": str(tmp_path / "none"), "LABEL_STUDIO_URL": label_studio.url}
    running = Backend(folder / "data", free_port(), **env)
    running.before = sealed(folder)
    running.start()
    yield running
    running.end()


@pytest.mark.e2e
def test_two_rounds_need_no_place_to_write_but_the_volume_and_tmp(
    backend: Backend, label_studio: LabelStudioServer, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    paths, labels = (part[:40] for part in request.getfixturevalue("digits"))
    person = Annotator(label_studio.url, label_studio.email, label_studio.password)
    truth = dict(zip([path.stem for path in paths], labels, strict=True))
    project = LabelingProject(person, backend, truth, "read-only", CONFIG)
    person.upload_images(project.id, paths)
    person.connect_backend(project.id, backend.url, {"rounds": 3, "labels_per_round": 10})
    for number in range(2):
        status = backend.wait_round(project.id, number, 300)
        for task in status["queue"]["task_ids"][: status["queue"]["size"]]:
            project.label_task(task)
    backend.wait_round(project.id, 2, 300)
    files = backend.data_dir / "projects"
    for name in ("round-001.onnx", "round-001.safetensors"):  # written last, by libraries of others
        wait_for(name, lambda name=name: [*files.rglob(name)])
    for page in ("", f"projects/{project.id}", "metrics", f"api/projects/{project.id}/model.onnx"):
        assert requests.get(f"{backend.url}/{page}", timeout=60).ok, page
    assert backend.stop() == 0
    said = backend.log.read_text()
    assert [line for line in said.splitlines() if any(words in line for words in LINES)] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rw", "rw-probe"]
