"""Masks in Label Studio's editor: one that the model drew is shown, corrected and submitted; one is drawn anew."""

from typing import Any

import numpy as np
import pytest
from support.e2e_harness import wait_for
from support.editor import CANVAS, HEIGHT, WIDTH, drag, picture
from support.labelings import IMAGE, view
from support.labelstudio import LabelStudioServer, server_codec

from backend.demo.annotator import Annotator
from backend.labeling.base import Item, Labeling
from backend.labeling.reader import read_labeling
from backend.labeling.rle import decode_mask
from backend.studio.project import LabelStudio, StudioProject
from backend.studio.types import NamedToken, Prediction
from model.data.masks import pack, unpack
from scripts.chromium import BINARY, Chromium

VERSION = "drawn"
LABELS = '<Label value="disc"/><Label value="square"/>'
REGIONS = "() => window.Htx?.annotationStore?.selected?.regions?.map((r) => [r.type, r.labels?.[0] ?? r.labelName])"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium here"),
]


class Drawn:
    """A project with one image, on which the model has drawn a disc and a square."""

    def __init__(self, server: LabelStudioServer, person: Annotator, kind: str) -> None:
        config = view(IMAGE, f'<{kind} name="mask" toName="image">{LABELS}</{kind}>')
        self.labeling: Labeling = read_labeling(config)
        self.project: StudioProject = LabelStudio(server.url, [NamedToken("tests", server.token)]).project(
            person.create_project(kind, config)
        )
        person.upload_images(self.project.id, [("image.png", picture())])
        (self.task,) = self.project.tasks.ids()
        self.url = f"{server.url}/projects/{self.project.id}/data?task={self.task}"
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        self.pixels = np.where((columns - 50) ** 2 + (rows - 60) ** 2 < 30**2, 1, 0).astype(np.uint8)
        self.pixels[30:60, 110:150] = 2

    def show(self) -> None:
        """Write the model's mask as a prediction of the version that the project shows."""
        result = self.labeling.result(pack(self.pixels, self.labeling.classes), Item(WIDTH, HEIGHT))
        assert self.project.predictions.write([Prediction(self.task, 0.5, VERSION, result)]) == []
        self.project.update(model_version=VERSION)

    def submitted(self) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Return the regions of the only annotation, and the class ids that they make."""
        (task,) = self.project.tasks.by_id([self.task])
        (annotation,) = task.annotations
        target = self.labeling.target(annotation.result)
        assert target is not None
        return list(annotation.result), unpack(target, self.labeling.classes, (WIDTH, HEIGHT))


def paint(browser: Chromium) -> None:
    """Choose the second label, and draw with it along the lower edge.

    Until the image is loaded, the editor forgets which label was chosen, and draws nothing.
    """
    chosen = "() => window.Htx.annotationStore.selected.names.get('mask').selectedLabels.length"

    def is_painted() -> bool:
        if browser.run(f"() => ({REGIONS})().length") == 3:
            return True
        if not browser.run(chosen):
            browser.press("2")
        drag(browser, (0.2, 0.9), (0.8, 0.9))
        return False

    wait_for("the stroke", is_painted, timeout_s=30, pause_s=1)


def submit(browser: Chromium, drawn: Drawn) -> None:
    """Press the button until there is an answer: before the image is loaded, the editor does not submit."""
    browser.wait("the image", CANVAS)
    press = "() => [...document.querySelectorAll('button')].find((b) => b.innerText.trim() === 'Submit')?.click()"

    def is_submitted() -> bool:
        if drawn.project.tasks.by_id([drawn.task])[0].annotations:
            return True
        browser.run(press)
        return False

    wait_for("the answer", is_submitted, timeout_s=40, pause_s=3)


@pytest.mark.parametrize("kind", ["BrushLabels", "BitmaskLabels", "PolygonLabels"])
def test_a_mask_that_the_model_drew_is_shown_and_comes_back(
    kind: str, browser: Chromium, person: Annotator, label_studio: LabelStudioServer
) -> None:
    """To the pixel with a brush or a bitmask; a polygon has fewer corners than a disc has pixels on its rim."""
    drawn = Drawn(label_studio, person, kind)
    drawn.show()
    browser.open(drawn.url)
    regions = browser.wait("both regions", f"() => {{ const r = ({REGIONS})(); return r?.length === 2 ? r : null; }}")
    assert {label for _, label in regions} == {"disc", "square"}
    submit(browser, drawn)
    result, pixels = drawn.submitted()
    assert [one["origin"] for one in result] == ["prediction"] * 2
    assert (pixels != drawn.pixels).sum() <= (0 if kind != "PolygonLabels" else 60)


def test_a_mask_is_corrected_with_the_brush(
    browser: Chromium, person: Annotator, label_studio: LabelStudioServer
) -> None:
    drawn = Drawn(label_studio, person, "BrushLabels")
    drawn.show()
    browser.open(drawn.url)
    browser.wait("both regions", f"() => ({REGIONS})()?.length === 2")
    paint(browser)
    submit(browser, drawn)
    result, pixels = drawn.submitted()
    changed = pixels != drawn.pixels
    assert (pixels[changed] == 2).all()  # a stroke along the lower edge, with what the model drew left as it was
    rows, columns = np.nonzero(changed)
    assert changed.any(axis=0)[int(0.25 * WIDTH) : int(0.75 * WIDTH)].all()
    assert rows.min() > 0.6 * HEIGHT
    assert columns.min() < 0.25 * WIDTH < 0.75 * WIDTH < columns.max()
    # What the editor has written is read as the server reads it.
    server = server_codec()
    for one in result:
        theirs = server.decode_rle(one["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)[..., 3]
        ours = decode_mask(one["value"]["rle"], WIDTH, HEIGHT)
        assert np.array_equal(theirs > theirs.max() // 2, ours)
