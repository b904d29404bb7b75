"""What goes wrong in a project, said where people look, and mended without a hand on this side."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.e2e_harness import CONFIG, Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer, free_port

from backend.demo.annotator import Annotator
from backend.errors import StudioError
from backend.loop.model_description import TWICE
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = pytest.mark.e2e

TEXT_ONLY = '<View><Text name="t" value="$t"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'


@pytest.fixture(scope="module")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


def card_says(studio: LabelStudio, project: int, words: str) -> None:
    """Wait for words on every model card of a project; there are two if Label Studio repeated a slow request."""

    def look() -> bool:
        return all(words in model.description for model in studio.project(project).ml_backends())

    wait_for(f"{words!r} on the model card", look)


def set_config(project: LabelingProject, config: str) -> None:
    project.annotator.call("PATCH", f"/api/projects/{project.id}/", {"label_config": config})


def test_a_project_without_tasks_waits_says_so_and_goes_on(make_project, backend: Backend, studio, digits) -> None:
    project = make_project(0, rounds=2, labels_per_round=10)
    status = backend.wait(project.id, "the wait", lambda s: "no tasks" in (s["error"] or ""))
    assert status["stage"] == "syncing"
    card_says(studio, project.id, "no tasks")
    project.annotator.upload_images(project.id, digits[0][:30])
    assert backend.wait_round(project.id, 0)["error"] is None
    card_says(studio, project.id, "round 1 of 2")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>',
            "<Image>",
        ),
        ('<View><Image name="image" value="$image"/></View>', "<Choices>"),
    ],
    ids=["no image", "no choices"],
)
def test_an_unusable_labeling_interface_is_named_and_mended(
    make_project, backend: Backend, studio, config: str, words: str
) -> None:
    project = make_project(0, config=config, rounds=2, labels_per_round=10)
    status = backend.wait(project.id, "the error", lambda s: words in (s["error"] or ""))
    assert status["stage"] == "failed"
    card_says(studio, project.id, words)
    project.annotator.call("PATCH", f"/api/projects/{project.id}/", {"label_config": CONFIG})
    backend.wait(project.id, "the error to go", lambda s: words not in (s["error"] or ""), 40)


def test_a_backend_that_is_connected_twice_says_so_and_works(make_project, backend: Backend, studio) -> None:
    project = make_project(30, rounds=2, labels_per_round=10)
    project.annotator.connect_backend(project.id, backend.url, {"rounds": 2, "labels_per_round": 10})
    backend.wait_round(project.id, 0)
    card_says(studio, project.id, "round 1 of 2")
    cards = sorted(studio.project(project.id).ml_backends(), key=lambda model: model.id)
    assert [TWICE in card.description for card in cards] == [number > 0 for number in range(len(cards))]


def test_an_unknown_key_is_refused_with_the_choices_and_changes_nothing(make_project, backend: Backend) -> None:
    project = make_project(0, connect=False)
    with pytest.raises(StudioError, match="smapler: unknown key; choose from background, batch_order, control"):
        project.annotator.connect_backend(project.id, backend.url, {"smapler": "random"})
    assert backend.status(project.id) == {}


def test_tasks_without_an_image_are_set_aside_with_their_reason(make_project, backend: Backend) -> None:
    project = make_project(30, connect=False)
    project.annotator.import_tasks(project.id, [{"data": {"image": f"http://127.0.0.1:9/{i}.png"}} for i in range(2)])
    project.annotator.import_tasks(project.id, [{"data": {"image": "", "note": "empty"}}])
    # The newest task, which every reading of changes meets again.
    project.annotator.import_tasks(project.id, [{"data": {"image": "/user/login/"}}])
    project.annotator.connect_backend(project.id, backend.url, {"rounds": 2, "labels_per_round": 10})
    backend.wait_round(project.id, 0)
    pool = backend.status(project.id)["pool"]
    assert (pool["tasks"], pool["images"]) == (34, 30)
    reasons = backend.get(f"/api/projects/{project.id}/broken")
    assert any("without an image" in row["reason"] for row in reasons)
    assert any("web page" in row["reason"] for row in reasons)
    assert "set aside" in backend.status(project.id)["notice"]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., LabelStudioServer]]:
    """Start a Label Studio of the test's own."""
    made: list[LabelStudioServer] = []

    def make(**env: str) -> LabelStudioServer:
        made.append(LabelStudioServer(free_port(), tmp_path / "ls", **env))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.stop()


def test_a_round_goes_on_after_label_studio_was_down(own_server, make_backend, digits) -> None:
    server = own_server()
    backend = make_backend(LABEL_STUDIO_URL=server.url)
    annotator = Annotator(server.url, server.email, server.password)
    truth = dict(zip([path.stem for path in digits[0][:60]], digits[1][:60], strict=True))
    project = LabelingProject(annotator, backend, truth, "goes down", CONFIG)
    annotator.upload_images(project.id, digits[0][:60])
    annotator.connect_backend(project.id, backend.url, {"rounds": 3, "labels_per_round": 10})
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    served = [project.label_next() for _ in range(3)]
    backend.wait(project.id, "the answers", lambda s: s["queue"]["answered"] == 3)
    server.stop()
    status = backend.wait(project.id, "the error", lambda s: s["error"], 60)
    assert server.url in status["error"]
    assert set(status["queue"]["task_ids"]) >= set(queue) - set(served)
    server.start()
    backend.wait(project.id, "the error to go", lambda s: s["error"] is None and s["queue"]["answered"] == 3, 60)
    for _ in range(8):
        project.label_next()
    backend.wait_round(project.id, 1)


def test_default_tokens_of_a_fresh_server_ask_for_an_access_token_and_work_with_one(
    own_server, make_backend, digits
) -> None:
    server = own_server(LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN="false")
    annotator = Annotator(server.url, server.email, server.password)
    annotator.allow_legacy_tokens(False)
    without = make_backend(LABEL_STUDIO_URL=server.url)
    project = LabelingProject(annotator, without, {}, "default tokens", CONFIG)
    annotator.upload_images(project.id, digits[0][:30])
    annotator.connect_backend(project.id, without.url, {"rounds": 2, "labels_per_round": 10})
    status = without.wait(project.id, "the refusal", lambda s: s["error"])
    assert "/setup" in status["error"]
    assert "LABEL_STUDIO_API_KEY" in status["error"]
    assert without.stop() == 0
    token = annotator.create_access_token()
    with_token = make_backend(without.port, LABEL_STUDIO_URL=server.url, LABEL_STUDIO_API_KEY=token)
    assert with_token.wait_round(project.id, 0)["error"] is None
    assert with_token.stop() == 0
    for kept in (without.log, without.data_dir / "pt4al.sqlite3"):
        assert token.encode() not in kept.read_bytes()
