"""Fixtures that several folders of tests share."""

from collections.abc import Iterator

import pytest
from redis_server import running_redis


@pytest.fixture(scope="session")
def private_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis for this session; tests that use it empty it first."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url
