"""Fixtures that several folders of tests share, and what is run once more when it fails."""

import os
from collections.abc import Iterator

import pytest
from support.labelstudio import ROOT, LabelStudioServer, free_port, start_label_studio
from support.postgres import Postgres, programs, running_postgres
from support.redis_server import running_redis

from backend.demo.annotator import Annotator
from backend.queueing.queues import Queueing

REAL = frozenset({"label_studio", "backend", "private_redis"})
PROCESSES = frozenset({"e2e", "faults", "ops", "screens"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that drive real processes a second try.

    Dozens of processes on two cores now and then stall each other for longer than any of them was made for. The summary
    names every test that needed its second try: it is something to look into, not noise.
    """
    for item in items:
        fixtures = frozenset(getattr(item, "fixturenames", ()))
        in_browser = item.get_closest_marker("browser") is not None
        if in_browser or fixtures & REAL or PROCESSES & set(item.path.relative_to(ROOT).parts):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2))


@pytest.fixture(scope="session")
def private_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis for this session; tests that use it empty it first."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def queueing(private_redis: str) -> Iterator[Queueing]:
    """An empty Redis, for a test."""
    queueing = Queueing(private_redis)
    queueing.connection.flushall()
    yield queueing
    queueing.connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL for this session; tests make databases of their own in it."""
    binaries = programs()
    if binaries is None:
        pytest.skip("there is no PostgreSQL: install it (Debian, Ubuntu: apt-get install postgresql)")
    with running_postgres(binaries) as server:
        yield server


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Postgres | None:
    """The PostgreSQL that Label Studio and the backend run on if PT4AL_TEST_ON=postgresql says so; None: SQLite."""
    return request.getfixturevalue("postgres") if os.environ.get("PT4AL_TEST_ON") == "postgresql" else None


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory, databases: Postgres | None) -> Iterator[LabelStudioServer]:
    """A real Label Studio for this session; each test makes projects of its own."""
    folder = tmp_path_factory.mktemp("label-studio")
    (folder / "files").mkdir()
    try:
        server = start_label_studio(
            free_port(),
            folder,
            **(databases.label_studio(folder) if databases else {}),
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
