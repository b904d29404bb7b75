"""Fixtures of the end-to-end tests: one Label Studio, one backend, and projects of digits on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.e2e_harness import CONFIG, Backend, LabelingProject
from support.labelstudio import LabelStudioServer, free_port
from support.postgres import Postgres

from backend.demo.annotator import Annotator


@pytest.fixture(scope="session")
def backend(
    tmp_path_factory: pytest.TempPathFactory, label_studio: LabelStudioServer, databases: Postgres | None
) -> Iterator[Backend]:
    env = {"LABEL_STUDIO_URL": label_studio.url, **database_of(databases)}
    running = Backend(tmp_path_factory.mktemp("backend") / "data", free_port(), **env)
    running.start()
    yield running
    running.stop()


def database_of(databases: Postgres | None) -> dict[str, str]:
    """The environment of a backend on a new database of PostgreSQL; empty for SQLite."""
    return {"DATABASE_URL": databases.tcp_url(databases.create())} if databases else {}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[str]]:
    """scikit-learn's 1,797 digits as PNG files, and what they show."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    paths = []
    for number, pixels in enumerate(data.images):
        path = folder / f"digit-{number:04d}.png"
        Image.fromarray((pixels * (255 / 16)).astype(np.uint8)).save(path)
        paths.append(path)
    return paths, [str(target) for target in data.target]


@pytest.fixture
def make_project(label_studio: LabelStudioServer, backend: Backend, digits: tuple[list[Path], list[str]],
                 request: pytest.FixtureRequest) -> Callable[..., LabelingProject]:  # fmt: skip
    """Make a project of ``images`` digits; ``connect`` it unless told not to."""

    def make(
        images: int = 200, *, first: int = 0, connect: bool = True, config: str = CONFIG, using: Backend | None = None,
        **extra_params: Any,
    ) -> LabelingProject:  # fmt: skip
        paths, labels = digits
        chosen = paths[first : first + images]
        truth = dict(zip([path.stem for path in chosen], labels[first : first + images], strict=True))
        annotator = Annotator(label_studio.url, label_studio.email, label_studio.password)
        project = LabelingProject(annotator, using or backend, truth, request.node.name[:50], config)
        if chosen:
            annotator.upload_images(project.id, chosen)
        if connect:
            annotator.connect_backend(project.id, (using or backend).url, extra_params or None)
        return project

    return make


@pytest.fixture
def make_backend(
    label_studio: LabelStudioServer, tmp_path: Path, databases: Postgres | None
) -> Iterator[Callable[..., Backend]]:
    """Start a backend of the test's own, to be killed or set up in another way; ``env`` adds to its environment."""
    made: list[Backend] = []
    fixed = {"LABEL_STUDIO_URL": label_studio.url, **database_of(databases)}  # all of them are one after another

    def make(port: int | None = None, **env: str) -> Backend:
        one = Backend(tmp_path / "data", port or free_port(), **{**fixed, **env})
        made.append(one)
        one.start()
        return one

    yield make
    for one in made:
        one.end()
