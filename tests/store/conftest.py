from pathlib import Path

import pytest

from backend.store import ProjectRow, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    yield store
    store.close()


@pytest.fixture
def project(store: Store) -> ProjectRow:
    return connect(store)


def connect(store: Store, **given: object) -> ProjectRow:
    values = {
        "studio_id": 1,
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
    return connect(store, studio_id=2)
