import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from backend.store import ProjectRow, Store
from backend.store.database import open_engine


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty database: SQLite, or the one that PT4AL_TEST_DATABASE_URL names, of which all tables are dropped."""
    url = os.environ.get("PT4AL_TEST_DATABASE_URL")
    if url is None:
        return f"sqlite:///{tmp_path / 'test.sqlite3'}"
    engine = open_engine(url)
    tables = MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    """A store on an empty database."""
    store = Store(url, tmp_path)
    yield store
    store.close()


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
