"""A project of boxes in the loop: from connecting to boxes for all images, with a detector that is drawn by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.loop_project import CLASSES, PARAMS, SIDE, WITH_ENCODER, LoopProject, shorten_training

from backend.loop.context import open_project
from backend.status.status import read_status
from backend.status.summary import as_json
from model.learners import detector
from model.problems.detection import Detection

LABEL = '<RectangleLabels name="c" toName="i"><Label value="bright"/></RectangleLabels>'
CONFIG = f'<View><Image name="i" value="$image"/>{LABEL}</View>'
IMAGES, K = 24, 4


class BoxProject(LoopProject):
    """There is a box around the bright half of each image."""

    @staticmethod
    def answer_of(name: str) -> list[dict[str, Any]]:
        return [boxed(name)]


def boxed(name: str) -> dict[str, Any]:
    value = {"x": 50 * CLASSES.index(name), "y": 0, "width": 50, "height": 100, "rotation": 0}
    sizes = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    of = {"from_name": "c", "to_name": "i", "type": "rectanglelabels"}
    return {**of, "value": {**value, "rectanglelabels": ["bright"]}, **sizes}


def seen(network, maps, letterboxes, most, sigmoid):
    """Return a box around the brighter half, as the maps of the image have it, with a score of 0.9."""
    boxes = np.full((len(letterboxes), most, 6), -1.0, np.float32)
    views = maps[0].float().numpy()
    for row, view in zip(boxes, views, strict=True):
        right = view[0, :, SIDE // 2 :].mean() > view[0, :, : SIDE // 2].mean()
        row[0] = [0.5 * right, 0, 0.5, 1, 0.9, 0]
    return boxes


class Brightness:
    """Stands for the maps of an encoder: the picture itself."""

    def __init__(self, side: int) -> None:
        self.name, self.side, self.shapes = "efficientnet_lite0", side, ((3, side, side),)

    def maps(self, views: np.ndarray) -> list[np.ndarray]:
        return [views.transpose(0, 3, 1, 2).astype(np.float16)]


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoxProject]:
    shorten_training(monkeypatch)
    monkeypatch.setattr(Detection, "view_side", SIDE)
    monkeypatch.setattr(detector, "open_maps", lambda name, side, folder, device: Brightness(side))
    monkeypatch.setattr(detector, "detect", seen)
    monkeypatch.setattr(detector, "STEPS", (1, 0.0, 1))
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)  # there is no such network
    made = BoxProject(tmp_path, monkeypatch, CONFIG)
    made.add(IMAGES)
    made.connect(**{**PARAMS, **WITH_ENCODER, "labels_per_round": K, "holdout_fraction": 0.5})
    yield made
    made.store.close()


def test_boxes_are_asked_learned_measured_pre_drawn_and_written_for_the_rest(loop: BoxProject) -> None:
    loop.run()
    assert len(loop.answer(most=K + K // 2)) == K + K // 2
    loop.run()
    task = loop.queue(0)[0]
    assert loop.stored(task)[1] == [["bright", 0.5 * CLASSES.index(loop.truth[task]), 0.0, 0.5, 1.0]]
    project = open_project(loop.context, loop.id)
    assert project.store.row().error is None
    first = project.store.rounds.get(0)
    assert (first.problem, first.labels, first.holdout_size) == ("detection", K, K // 2)
    assert first.holdout_quality == first.holdout_size
    assert first.learner["learner"] == "detector"
    status = as_json(read_status(loop.store, loop.row))
    assert (status["problem"], status["error"], status["history"][0]["quality"]) == ("detection", None, 1.0)
    assert status["history"][0]["map50"] == 1.0
    # The next queue is pre-drawn, but for the holdout; each region has its score, and the size of its image.
    drawn = {task: loop.predicted(task, loop.round.model_version) for task in loop.queue()}
    assert sum(map(bool, drawn.values())) == K
    for task, regions in drawn.items():
        for region in regions:
            assert region == {**boxed(loop.truth[task]), "score": pytest.approx(0.9)}
    labeled = loop.label_the_rest(images=10)
    assert labeled
    assert all(loop.predicted(task, "pt4al-final-r000") for task in labeled)
    loop.add(2)  # images that came later are embedded, viewed and asked too
    loop.run()
    assert project.store.row().error is None
    # A second annotator draws one box more: it is no answer, and it is counted.
    assert project.store.dashboard.left_out() == (0, 0)
    task = loop.queue(0)[0]
    loop.person.annotate(task, [boxed(name) for name in CLASSES[:2]])
    loop.run()
    assert loop.stored(task)[1] == [["bright", 0.5 * CLASSES.index(loop.truth[task]), 0.0, 0.5, 1.0]]
    assert project.store.dashboard.left_out() == (1, 1)
