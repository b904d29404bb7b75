"""One Label Studio and one backend for all screens, as in the end-to-end tests, and a browser in which its owner is."""

from collections.abc import Iterator

import pytest
from support.e2e_fixtures import backend, digits
from support.labelstudio import LabelStudioServer

from backend.demo.annotator import Annotator
from scripts.chromium import Chromium, started

__all__ = ["backend", "digits"]


@pytest.fixture(scope="module")
def person(label_studio: LabelStudioServer) -> Annotator:
    """The owner of the projects."""
    return Annotator(label_studio.url, label_studio.email, label_studio.password)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, label_studio: LabelStudioServer) -> Iterator[Chromium]:
    """A browser in which the owner of the projects is logged in."""
    with started(tmp_path_factory.mktemp("chromium"), width=1600, height=950) as chromium:
        chromium.open(f"{label_studio.url}/user/login/")
        chromium.fill("input[name=email]", label_studio.email)
        chromium.fill("input[name=password]", label_studio.password)
        chromium.press("Enter")
        chromium.wait("the login", "() => !location.pathname.startsWith('/user')")
        yield chromium
