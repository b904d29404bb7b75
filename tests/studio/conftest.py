"""A signed-in person, a client and projects on the session's Label Studio; a small web server."""

from collections.abc import Callable

import pytest
from support.labelstudio import LabelStudioServer
from support.studio_web import Web, reply, web

from backend.addresses import AllowedAddresses
from backend.demo.annotator import Annotator
from backend.studio.availability import availability
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

__all__ = ["web"]

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


@pytest.fixture(autouse=True)
def forgetful():
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


@pytest.fixture
def make_tasks(person: Annotator, studio: LabelStudio, project: int) -> Callable[[int], list[int]]:
    def make(count: int) -> list[int]:
        person.import_tasks(project, [{"data": {"image": f"/data/none/{number}.png"}} for number in range(count)])
        return studio.project(project).tasks.ids()[-count:]

    return make


@pytest.fixture
def backend(web: Web) -> Web:
    """A model that says it is up, in the place of ours."""

    def answer(handler, number):
        wanted = web.wanted_authorization
        if wanted and handler.headers.get("Authorization") != wanted:
            reply(handler, 401)
        elif handler.path == "/setup":
            reply(handler, 200, '{"model_version": "v0"}')
        else:
            reply(handler, 200, '{"status": "UP", "results": []}')

    web.wanted_authorization = None
    web.answer = answer
    return web
