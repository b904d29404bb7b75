from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import Postgres

from backend.store import ProjectRow, Store
from backend.store.tables import Base

BOTH = ("sqlite", "postgresql")  # every test that asks for ``url`` or ``store`` runs on either


@pytest.fixture(scope="session")
def without_tables(postgres: Postgres) -> str:
    """The name of a database on PostgreSQL."""
    return postgres.create()


@pytest.fixture(scope="session")
def with_tables(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database on PostgreSQL that has our tables."""
    name = postgres.create()
    Store(postgres.url(name), tmp_path_factory.mktemp("tables")).close()
    return name


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.sqlite3'}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = request.getfixturevalue("without_tables")
    yield postgres.url(name)
    postgres.clear(name, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store on a database without rows."""
    if request.param == "sqlite":
        store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
        yield store
        store.close()
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = request.getfixturevalue("with_tables")
    store = Store(postgres.url(name), tmp_path)
    yield store
    store.close()
    postgres.clear(name, f"TRUNCATE {', '.join(Base.metadata.tables)} RESTART IDENTITY")


@pytest.fixture
def project(store: Store) -> ProjectRow:
    return connect(store)


def connect(store: Store, **given: object) -> ProjectRow:
    values = {
        "studio_project_id": 1,
        "created_ts": "1700000000",
        "server": "http://studio",
        "token": "t0ken",
        "backend_url": "http://backend:9090",
        "label_config": "<View/>",
        "extra_params": {},
    }
    return store.projects.connect(**{**values, **given})[0]


@pytest.fixture
def other_project(store: Store) -> ProjectRow:
    return connect(store, studio_project_id=2)
