"""Fixtures that several folders of tests share."""

from collections.abc import Iterator

import pytest
from labelstudio import LabelStudioServer, free_port, start_label_studio
from redis_server import running_redis

from backend.studio.annotator import Annotator


@pytest.fixture(scope="session")
def private_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis for this session; tests that use it empty it first."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A real Label Studio for this session; each test makes projects of its own."""
    folder = tmp_path_factory.mktemp("label-studio")
    (folder / "files").mkdir()
    try:
        server = start_label_studio(
            free_port(),
            folder,
            LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED="true",
            LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=str(folder / "files"),
        )
    except (FileNotFoundError, RuntimeError) as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def personal_token(label_studio: LabelStudioServer) -> str:
    """The administrator's personal access token; Label Studio gives each account one."""
    return Annotator(label_studio.url, label_studio.email, label_studio.password).create_access_token()
