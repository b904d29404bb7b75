"""kill -9 of any process at random moments: the project ends as one that nobody disturbed."""

import random
from collections.abc import Callable, Iterator

import pytest
from faults.scenario import IMAGES, PARAMS, Outcome, kill, meanwhile, play
from support.e2e_harness import Backend, LabelingProject
from support.fault_figures import TIMES
from support.labelstudio import LabelStudioServer, free_port

from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

KILLS = 5  # in a run; more would only wait for the supervisor's growing pauses


@pytest.fixture(scope="module")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


@pytest.fixture
def undisturbed(make_project: Callable[..., LabelingProject], label_studio: LabelStudioServer, studio: LabelStudio,
                tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Outcome:  # fmt: skip
    """What comes of the project when all goes well; played once."""
    if not hasattr(request.module, "_undisturbed"):
        backend = Backend(tmp_path_factory.mktemp("calm") / "data", free_port(), LABEL_STUDIO_URL=label_studio.url)
        backend.start()
        try:
            project = make_project(IMAGES, using=backend, **PARAMS)
            request.module._undisturbed = play(project, backend, studio)
        finally:
            backend.end()
    return request.module._undisturbed


def moments(seed: int, most_s: float = 6.0) -> Iterator[float]:
    chance = random.Random(seed)
    return iter([chance.uniform(0.1, most_s) for _ in range(KILLS)])


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("what", ["advance", "io", "train", "web", "redis", "all"])
def test_a_project_ends_the_same_whatever_is_killed(
    make_backend, make_project, studio: LabelStudio, undisturbed: Outcome, what: str, attempt: int, figures
) -> None:
    backend: Backend = make_backend()
    project: LabelingProject = make_project(IMAGES, using=backend, connect=False)
    killed: list[int] = []
    with meanwhile(lambda: killed.append(kill(backend, what)), moments(attempt)):
        project.annotator.connect_backend(project.id, backend.url, PARAMS)
        found = play(project, backend, studio)
    figures(kills=sum(map(bool, killed)), same=found == undisturbed)
    assert sum(killed) > 0
    assert found == undisturbed
    assert backend.stop() == 0
