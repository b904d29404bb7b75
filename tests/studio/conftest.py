"""Tasks of a project on the session's Label Studio; a small web server."""

from collections.abc import Callable

import pytest
from support.studio_fixtures import forgetful, person, project, studio
from support.studio_web import Web, reply, web

from backend.demo.annotator import Annotator
from backend.studio.project import LabelStudio

__all__ = ["forgetful", "person", "project", "studio", "web"]


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
