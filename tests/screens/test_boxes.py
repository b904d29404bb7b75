"""Boxes in Label Studio's editor: those of the model are shown, one is added, and all come back with the answer."""

import io
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from support.e2e_harness import wait_for
from support.labelings import IMAGE, view
from support.labelstudio import LabelStudioServer

from backend.demo.annotator import Annotator
from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken, Prediction
from model.problems.detection import Detection
from scripts.chromium import BINARY, Chromium, started

WIDTH, HEIGHT = 160, 120
LABELS = '<Label value="cell"/><Label value="plate"/>'
CONTROLS = {
    "rectanglelabels": f'<RectangleLabels name="kind" toName="image">{LABELS}</RectangleLabels>',
    "labels": f'<Labels name="kind" toName="image">{LABELS}</Labels><Rectangle name="box" toName="image"/>',
}
PREDICTED = [["cell", 0.1, 0.1, 0.25, 0.25, 0.9], ["plate", 0.5, 0.2, 0.2, 0.4, 0.6]]
REGIONS = "() => window.Htx?.annotationStore?.selected?.regions?.length"
CANVAS = """() => {
  const r = document.querySelector(".konvajs-content canvas")?.getBoundingClientRect();
  return r && r.width > 50 ? [r.left, r.top, r.width, r.height] : null;
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium here"),
]


@pytest.fixture(scope="module")
def person(label_studio: LabelStudioServer) -> Annotator:
    return Annotator(label_studio.url, label_studio.email, label_studio.password)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, label_studio: LabelStudioServer) -> Iterator[Chromium]:
    with started(tmp_path_factory.mktemp("chromium"), width=1600, height=950) as chromium:
        chromium.open(f"{label_studio.url}/user/login/")
        chromium.fill("input[name=email]", label_studio.email)
        chromium.fill("input[name=password]", label_studio.password)
        chromium.press("Enter")
        chromium.wait("the login", "() => !location.pathname.startsWith('/user')")
        yield chromium


def picture() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3))
    Image.fromarray(noise.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def drag(browser: Chromium, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw over the image from one place to another, each as shares of its width and height."""
    left, top, width, height = browser.wait("the canvas", CANVAS)
    (x, y), (to_x, to_y) = ((left + share[0] * width, top + share[1] * height) for share in (start, end))
    mouse = {"button": "left", "clickCount": 1, "buttons": 1}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
    for step in range(1, 11):
        place = {"x": x + (to_x - x) * step / 10, "y": y + (to_y - y) * step / 10}
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **place)
        time.sleep(0.03)  # the editor takes the moves of a frame together
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, **mouse)


@pytest.mark.parametrize("kind", CONTROLS)
def test_boxes_of_the_model_are_corrected_and_come_back(
    kind: str, browser: Chromium, person: Annotator, label_studio: LabelStudioServer
) -> None:
    config = view(IMAGE, CONTROLS[kind])
    labeling = read_labeling(config)
    studio = LabelStudio(label_studio.url, [NamedToken("tests", label_studio.token)])
    project = studio.project(person.create_project(kind, config))
    person.upload_images(project.id, [("image.png", picture())])
    (task,) = project.tasks.ids()
    shown = labeling.result(PREDICTED, Item(WIDTH, HEIGHT))
    assert project.predictions.write([Prediction(task, 0.5, "boxes", shown)]) == []
    project.update(model_version="boxes")
    browser.open(f"{label_studio.url}/projects/{project.id}/data?task={task}")
    browser.wait("both boxes", f"() => ({REGIONS})() === 2")
    browser.click(".lsf-label", "plate")
    drag(browser, (0.1, 0.6), (0.3, 0.9))
    browser.wait("the third box", f"() => ({REGIONS})() === 3")
    browser.click("button", "Submit")
    wait_for("the answer", lambda: project.tasks.by_id([task])[0].annotations, timeout_s=30)
    (annotation,) = project.tasks.by_id([task])[0].annotations
    target = labeling.target(annotation.result)
    assert target is not None
    assert len(target) == 3
    assert Detection().quality(target, [*[box[:5] for box in PREDICTED], ["plate", 0.1, 0.6, 0.2, 0.3]]) == 1
    kept = [box for box in target if box[1:3] in ([0.1, 0.1], [0.5, 0.2])]
    assert [box[1:] for box in kept] == [pytest.approx(box[1:5], abs=1e-4) for box in PREDICTED]
