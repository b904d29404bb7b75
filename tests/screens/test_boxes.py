"""Boxes in Label Studio's editor: those of the model are shown, one is added, and all come back with the answer."""

import pytest
from support.e2e_harness import wait_for
from support.editor import HEIGHT, WIDTH, drag, picture
from support.labelings import IMAGE, view
from support.labelstudio import LabelStudioServer

from backend.demo.annotator import Annotator
from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken, Prediction
from model.problems.detection import Detection
from scripts.chromium import BINARY, Chromium

LABELS = '<Label value="cell"/><Label value="plate"/>'
CONTROLS = {
    "rectanglelabels": f'<RectangleLabels name="kind" toName="image">{LABELS}</RectangleLabels>',
    "labels": f'<Labels name="kind" toName="image">{LABELS}</Labels><Rectangle name="box" toName="image"/>',
}
PREDICTED = [["cell", 0.1, 0.1, 0.25, 0.25, 0.9], ["plate", 0.5, 0.2, 0.2, 0.4, 0.6]]
REGIONS = "() => window.Htx?.annotationStore?.selected?.regions?.length"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium here"),
]


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
