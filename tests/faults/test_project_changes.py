"""What people do to a project while it runs: delete, disconnect, revoke, change the labels."""

from collections.abc import Callable

import pytest
from faults.scenario import IMAGES, PARAMS, UNHARMED, K, damage, finish, label, no_doubles
from support.e2e_harness import CONFIG, Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer

from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

Make = Callable[..., LabelingProject]


@pytest.fixture(scope="module")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


def test_a_deleted_project_is_put_to_rest_and_no_other_is_touched(
    make_project: Make, backend: Backend, studio: LabelStudio, figures
) -> None:
    doomed = make_project(30, **PARAMS)
    other = make_project(30, first=30, **PARAMS)
    backend.wait_round(doomed.id, 0)
    before = backend.wait_round(other.id, 0)["queue"]
    doomed.annotator.call("DELETE", f"/api/projects/{doomed.id}/")
    backend.wait(doomed.id, "rest", lambda s: not s["active"], 60)
    assert "not in Label Studio any more" in backend.status(doomed.id)["error"]
    label(other, before["task_ids"][0])
    backend.wait(other.id, "an answer", lambda s: s["queue"]["answered"] == 1)
    after = backend.status(other.id)["queue"]
    touched = {*before["task_ids"][1:]} - {*after["task_ids"]}
    figures(deleted=sum(not backend.status(one.id)["active"] for one in (doomed, other)), others_touched=len(touched))
    assert not touched


@pytest.mark.parametrize("address", ["the same", "another"])
def test_a_project_that_is_disconnected_and_connected_again_goes_on(
    make_project: Make, make_backend: Callable[..., Backend], studio: LabelStudio, address: str, figures
) -> None:
    backend = make_backend()
    project = make_project(IMAGES, using=backend, **PARAMS)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    for task in queue[:4]:
        label(project, task)
    backend.wait(project.id, "four answers", lambda s: s["queue"]["answered"] == 4)
    for model in studio.project(project.id).ml_backends():
        project.annotator.call("DELETE", f"/api/ml/{model.id}")
    backend.wait(project.id, "rest", lambda s: not s["active"], 90)
    label(project, queue[4])
    url = backend.url if address == "the same" else backend.url.replace("localhost", "127.0.0.1")
    project.annotator.connect_backend(project.id, url, PARAMS)
    status = backend.wait(project.id, "the answers", lambda s: s["active"] and s["queue"]["answered"] == 5)
    assert status["queue"]["task_ids"][0] == queue[5]
    assert status["round"] == 0
    no_doubles(project, backend, studio, "pt4al-r000")
    for task in queue[5 : K + 1]:
        label(project, task)
    backend.wait_round(project.id, 1, 240)
    finish(project, backend, studio, ((), ()))

    def heard() -> bool:
        return any(hook.url == f"{url}/webhook" and hook.headers for hook in studio.project(project.id).webhooks())

    wait_for("the webhook at the new address", heard, 60)
    counted = damage(project, backend, studio)
    figures(**counted)
    assert counted == UNHARMED


def test_a_revoked_token_is_named_and_its_return_needs_no_hand(
    make_project: Make, make_backend: Callable[..., Backend], studio: LabelStudio, label_studio, figures
) -> None:
    backend = make_backend()
    project = make_project(30, using=backend, **PARAMS)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    project.annotator.allow_legacy_tokens(False)
    try:
        label(project, queue[0])
        status = backend.wait(project.id, "the refusal", lambda s: s["error"], 60)
        assert "legacy token" in status["error"]
        assert label_studio.token not in status["error"]
        label(project, queue[1])
    finally:
        project.annotator.allow_legacy_tokens(True)
    backend.wait(project.id, "both answers", lambda s: s["error"] is None and s["queue"]["answered"] == 2, 60)
    counted = damage(project, backend, studio)
    figures(**counted)
    assert counted == UNHARMED


def test_labels_that_are_added_renamed_and_removed_are_followed(
    make_project: Make, backend: Backend, studio: LabelStudio, figures
) -> None:
    project = make_project(IMAGES, **PARAMS)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]

    def configure(config: str) -> None:
        project.annotator.call("PATCH", f"/api/projects/{project.id}/", {"label_config": config})

    configure(CONFIG.replace('<Choice value="9"/>', '<Choice value="9"/><Choice value="ten"/>'))
    label_as(project, queue[0], "ten")
    for task in queue[1:K]:
        label(project, task)
    configure(CONFIG.replace('<Choice value="9"/>', '<Choice value="9"/><Choice value="ten"/><Choice value="eleven"/>'))
    label(project, queue[K])
    status = backend.wait_round(project.id, 1, 240)
    assert status["error"] is None
    assert status["history"][0]["labels"] == K
    # A label that nobody has used goes; one in use is Label Studio's to refuse.
    configure(CONFIG.replace('<Choice value="9"/>', '<Choice value="9"/><Choice value="ten"/>'))
    queue = status["queue"]["task_ids"]
    for task in queue[: status["queue"]["size"]]:
        label(project, task)
    status = backend.wait_round(project.id, 2, 240)
    assert status["history"][1]["labels"] >= 2 * K - 1
    no_doubles(project, backend, studio, "pt4al-r002")
    counted = damage(project, backend, studio)
    figures(rounds_completed=len(status["history"]), **counted)
    assert counted == UNHARMED


def label_as(project: LabelingProject, task: int, name: str) -> None:
    project.label_task(task, name)
