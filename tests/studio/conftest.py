"""Tasks of a project on the session's Label Studio; a small web server."""

from collections.abc import Callable

import pytest
from support.studio_fixtures import forgetful, person, project, studio
from support.studio_web import web

from backend.demo.annotator import Annotator
from backend.studio.project import LabelStudio

__all__ = ["forgetful", "person", "project", "studio", "web"]


@pytest.fixture
def make_tasks(person: Annotator, studio: LabelStudio, project: int) -> Callable[[int], list[int]]:
    def make(count: int) -> list[int]:
        person.import_tasks(project, [{"data": {"image": f"/data/none/{number}.png"}} for number in range(count)])
        return studio.project(project).tasks.ids()[-count:]

    return make
