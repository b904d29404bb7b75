"""What the tests of faults share: fixtures of other folders, and where their figures go."""

import pytest
from support.e2e_fixtures import backend, digits, make_backend, make_project
from support.fault_figures import figures
from support.studio_web import web
from support.web_pages import browser, filled, pages

from backend.studio.availability import availability

__all__ = [
    "backend", "browser", "digits", "figures", "filled", "make_backend", "make_project", "pages", "web",
]  # fmt: skip


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """No test finds a server paused that failed in an earlier one."""
    availability.cache_clear()
