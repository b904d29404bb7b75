"""A store with one project, such as the benchmarks fill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=None,
        label_config="<View/>",
        extra_params={},
    )  # fmt: skip
    yield store
    store.close()
