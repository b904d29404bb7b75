"""The application's fixtures, which tests/faults uses as well."""

import pytest
from support.web_pages import browser, filled, pages

from backend.store import Store

__all__ = ["browser", "filled", "pages"]


@pytest.fixture
def store(pages) -> Store:
    """The application's store."""
    return pages.extensions["pt4al"].store
