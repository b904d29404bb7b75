"""A signed-in person, a client and an empty project on the session's Label Studio."""

import pytest
from support.labelstudio import LabelStudioServer

from backend.addresses import AllowedAddresses
from backend.demo.annotator import Annotator
from backend.studio.availability import availability
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

__all__ = ["forgetful", "person", "project", "studio"]

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """No test finds a server paused that failed in an earlier one."""
    availability.cache_clear()


@pytest.fixture(scope="session")
def person(label_studio: LabelStudioServer) -> Annotator:
    return Annotator(label_studio.url, label_studio.email, label_studio.password)


@pytest.fixture(scope="session")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    allowed = AllowedAddresses.parse("127.0.0.1")
    return LabelStudio(label_studio.url, [NamedToken("the test's token", label_studio.token)], allowed)


@pytest.fixture
def project(person: Annotator, request: pytest.FixtureRequest) -> int:
    """An empty project."""
    return person.create_project(request.node.name[:50], CONFIG)
