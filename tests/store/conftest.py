import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.store import ProjectRow, Store
from backend.store.tables import Base


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on SQLite, or emptied on the database that PT4AL_TEST_DATABASE_URL names."""
    url = os.environ.get("PT4AL_TEST_DATABASE_URL", f"sqlite:///{tmp_path / 'test.sqlite3'}")
    store = Store(url, tmp_path)
    if "PT4AL_TEST_DATABASE_URL" in os.environ:
        Base.metadata.drop_all(store.engine)
        Base.metadata.create_all(store.engine)
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
