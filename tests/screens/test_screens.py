"""The three persons' whole ways through one project, in a real browser: one story, told in order.

The engineer connects the model, annotators label two rounds, the lead looks at the numbers and uses the model, and the
engineer repairs an image and disconnects. Nothing waits by the clock: every step waits for what it needs to see.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console
from support.e2e_harness import CONFIG, Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer

from backend.config import Settings
from backend.demo.annotator import Annotator
from backend.status.table import show_status
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken
from scripts.chromium import BINARY, Chromium

IMAGES, K = 60, 8
TAB = "PT4AL queue"
PARAMS = {"rounds": 3, "labels_per_round": K, "holdout_fraction": 0.5}
HOTKEYS = "1234567890"  # of the digits 0 to 9
TASK = "() => document.querySelector('.lsf-current-task__task-id')?.innerText.split(/\\s/)[0]"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium here"),
]


@pytest.fixture(scope="module")
def project(label_studio: LabelStudioServer, backend: Backend, digits: tuple[list[Path], list[str]]) -> LabelingProject:
    """Digits and one file that is no image, not connected yet."""
    paths, labels = digits
    truth = dict(zip([path.stem for path in paths[:IMAGES]], labels[:IMAGES], strict=True))
    made = LabelingProject(
        Annotator(label_studio.url, label_studio.email, label_studio.password), backend, truth, "Digits", CONFIG
    )
    made.annotator.upload_images(made.id, paths[:IMAGES])
    return made


@pytest.fixture(scope="module")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("tests", label_studio.token)])


@pytest.fixture
def page(browser: Chromium, project: LabelingProject, label_studio: LabelStudioServer) -> Callable[[str], None]:
    """Go to a page of the project in Label Studio."""
    return lambda path: browser.open(f"{label_studio.url}/projects/{project.id}/{path}")


def test_the_engineer_connects_the_model(browser: Chromium, page, project: LabelingProject, backend: Backend) -> None:
    for params, answer in (({**PARAMS, "sampler": "guessing"}, "'guessing' is not one of"), (PARAMS, "Connected")):
        page("settings/ml")
        browser.click("button", "Connect Model")
        browser.fill("input[name=title]", "Active learning")
        browser.fill("input[name=url]", backend.url)
        browser.fill("textarea[name=extra_params]", json.dumps(params))
        browser.click("button", "Validate and Save")
        browser.see(answer)
    backend.wait_round(project.id, 0)
    backend.wait(project.id, "the losses on record", lambda s: s["stage"] == "labeling")


def test_the_annotator_labels_a_round_by_hotkey(
    browser: Chromium, page, project: LabelingProject, backend: Backend, studio: LabelStudio
) -> None:
    queue = backend.status(project.id)["queue"]["task_ids"][: K + K // 2]
    page("data")
    browser.click("button", "Label All Tasks")
    served = [label_shown(browser, project) for _ in queue]
    assert served == queue
    status = backend.wait_round(project.id, 1)
    assert status["history"][0]["labels"] == K
    assert status["history"][0]["holdout_size"] == K // 2
    assert status["title"] == "Digits"


def test_the_next_round_comes_pre_annotated(browser: Chromium, page, project: LabelingProject, studio) -> None:
    page("data")
    browser.click("button", "Label All Tasks")
    label_shown(browser, project)  # what was open when the queue changed comes first, once
    version = studio.project(project.id).settings().model_version
    assert version == "pt4al-r001"
    while not (expected := predicted_classes(project, shown(browser), version)):
        label_shown(browser, project)  # an image of the holdout, which shows none
    checked = "() => [...document.querySelectorAll('input.ant-checkbox-input:checked')].map((e) => e.name)"
    seen = browser.wait("the model's guess", f"() => {{ const c = ({checked})(); return c.length ? c : null; }}")
    assert seen == expected
    for _ in range(2):
        label_shown(browser, project)


def test_the_data_manager_shows_the_queue_with_numbers_that_sort(browser: Chromium, page, backend, project) -> None:
    def read_tasks() -> list[dict[str, Any]]:
        return project.annotator.call("GET", "/api/tasks/", project=project.id, fields="all", page_size=IMAGES)["tasks"]

    # The losses come behind the queue.
    wait_for("the losses on record", lambda: all("pretext_loss" in task["data"] for task in read_tasks()))
    page("data")
    browser.click("[class*=tabs] *", TAB)
    browser.see("Prediction score")
    # Rows stand in the order of the queue, answered ones left out of it.
    first = browser.wait("rows", "() => [...document.querySelectorAll('[class*=table-row]')].length > 5")
    assert first
    browser.wait(
        "thumbnails", "() => [...document.querySelectorAll('[class*=table-row] img')].some((i) => i.naturalWidth)"
    )
    assert numbers_of(browser, "pretext_loss")
    scores = [value for value in column(browser, "Prediction score") if value is not None]
    assert len(scores) > 5
    assert scores == sorted(scores)
    # What is shown is rounded: the order is compared by the losses themselves.
    tasks = read_tasks()
    losses = {task["inner_id"]: task["data"]["pretext_loss"] for task in tasks}
    browser.click("button", "Prediction score")
    browser.click("[class*=menu] *", "pretext_loss")
    rising = f"""(name, loss) => {{
      const rows = ({COLUMN})(name).map((id) => loss[id]);
      return rows.length > 5 && rows.every((value, i) => i === 0 || rows[i - 1] <= value);
    }}"""
    browser.wait("rows in the order of their loss", rising, "Inner ID", losses)


def test_start_training_ends_the_round(browser: Chromium, page, project: LabelingProject, backend: Backend) -> None:
    page("settings/ml")
    browser.click("[aria-label='Machine learning model options']")
    browser.click("[class*=main-menu__item]", "Start Training")
    browser.click("button", "Start Training")
    status = backend.wait_round(project.id, 2)
    assert status["history"][1]["labels"] > K
    assert status["outlook"] is not None


def test_the_lead_sees_the_numbers_and_uses_the_model(
    browser: Chromium, project: LabelingProject, backend: Backend, studio: LabelStudio
) -> None:
    before = studio.project(project.id).settings().model_version
    browser.open(f"{backend.url}/")
    browser.click("a", "Digits")
    browser.see("Another round (12 answers, 8 of them to learn from) would add about")
    browser.run("() => scrollTo(0, 0)")
    browser.wait("the learning curve", "() => document.querySelectorAll('#figure-curve .point').length === 2")
    browser.run("() => { document.getElementById('use-model-confidence').value = '50'; }")
    browser.click("button", "See what that gives")
    # With so few labels of ten classes the model is honestly sure of hardly anything.
    browser.open(f"{backend.url}/projects/{project.id}/final?percent=20")
    browser.see("of these predictions will be wrong")
    promised = int(browser.run("() => document.getElementById('write').innerText.match(/\\d+/)[0]"))
    assert promised > 0
    browser.click("#write")
    browser.see(f"{promised} predictions stand in Label Studio as pt4al-final-r001")
    written = studio.project(project.id).predictions.stored("pt4al-final-r001")
    assert len({prediction.task for prediction in written}) == len(written) == promised
    assert all(prediction.score >= 0.2 for prediction in written)
    assert studio.project(project.id).settings().model_version == before
    queue = backend.status(project.id)["queue"]["task_ids"]
    assert {stored.task for stored in studio.project(project.id).predictions.stored(before)} >= set(queue)
    browser.click("nav a", "Digits")
    browser.see("Model of round 2 (ONNX)", patience_s=60)
    for link, start in {"(CSV)": b"task,image", "(ONNX)": b"", "(safetensors)": b""}.items():
        address = browser.run("(t) => [...document.links].find((a) => a.innerText.includes(t)).href", link)
        answer = requests.get(address, timeout=30)
        assert answer.ok, address
        assert answer.content.startswith(start)
        assert len(answer.content) > 1000
    assert browser.console == []


def test_the_engineer_repairs_an_image_and_disconnects(
    browser: Chromium, page, project: LabelingProject, backend: Backend, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("this is no image")
    project.annotator.upload_images(project.id, [broken])
    browser.open(f"{backend.url}/projects/{project.id}")
    browser.see("The file is a text, not an image", patience_s=60)
    assert status_of(backend)["pt4al"] == 0
    browser.click("button", "Fetch them again")
    browser.wait("the page after the button", "() => document.readyState === 'complete'")
    backend.wait(project.id, "it to be set aside again", lambda s: s["pool"]["broken"] == 1)
    page("settings/ml")
    browser.click("[aria-label='Machine learning model options']")
    browser.click("[class*=main-menu__item]", "Delete")
    browser.click("button", "OK")
    browser.see("Connect Model")
    backend.wait(project.id, "the disconnection", lambda s: not s["active"])
    browser.open(f"{backend.url}/")
    browser.see("Disconnected")


def predicted_classes(project: LabelingProject, task: int, version: str) -> list[str]:
    """Return the classes of a task's prediction of that version, as Label Studio has it."""
    stored = project.annotator.call("GET", f"/api/tasks/{task}/")["predictions"]
    (prediction,) = [prediction for prediction in stored if prediction["model_version"] == version]
    return [choice for region in prediction["result"] for choice in region["value"]["choices"]]


def shown(browser: Chromium) -> int:
    """Return the task that the label stream shows."""
    return int(browser.wait("a task", f"() => {{ const t = ({TASK})(); return /^\\d+$/.test(t) ? t : null; }}"))


def label_shown(browser: Chromium, project: LabelingProject) -> int:
    """Answer the shown task by its hotkey and submit it by Ctrl+Enter, as an annotator does; return its id."""
    task = shown(browser)
    browser.see("Submit", "button")
    label = project.label_of(project.annotator.call("GET", f"/api/tasks/{task}/")["data"])
    chosen = "(n) => document.querySelector(`input.ant-checkbox-input[name='${n}']`)?.checked"
    others = "(n) => document.querySelectorAll('input.ant-checkbox-input:checked').length === 1"
    if not browser.run(chosen, label):
        browser.press(HOTKEYS[int(label)])
    browser.wait(f"'{label}' to be chosen", f"(n) => ({chosen})(n) && ({others})(n)", label)
    browser.press("Enter", control=True)
    browser.wait("the next task", f"(t) => {{ const n = ({TASK})(); return n !== t; }}", str(task))
    return task


COLUMN = """(name) => {
  const heads = [...document.querySelectorAll("[class*=table-head] .lsf-th")];
  const at = heads.findIndex((e) => e.textContent.includes(name));
  const rows = [...document.querySelectorAll("[class*=table-row]")];
  return rows.map((row) => row.querySelectorAll(".lsf-table__cell")[at]?.innerText.trim())
    .filter((text) => text).map(Number);
}"""


def column(browser: Chromium, name: str) -> list[float]:
    """Return the numbers of a column of the Data Manager, from top to bottom."""
    values: list[float] = browser.run(COLUMN, name)
    return values


def numbers_of(browser: Chromium, name: str) -> bool:
    """Tell whether the Data Manager takes a column for numbers."""
    head = "(n) => [...document.querySelectorAll('.lsf-th')].find((e) => e.textContent.includes(n))?.textContent"
    return str(browser.run(head, name)).endswith("num")


def status_of(backend: Backend) -> dict[str, Any]:
    """Run ``python -m backend status`` on the backend's data, its server running."""
    console = Console(file=io.StringIO(), width=160)
    code = show_status(Settings(data_dir=backend.data_dir), console)
    assert "Digits" in console.file.getvalue()
    return {"pt4al": code, "text": console.file.getvalue()}
