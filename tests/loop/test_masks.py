"""A project of masks in the loop: from connecting to masks for all images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.loop_project import CLASSES, PARAMS, SIDE, WITH_ENCODER, LoopProject, shorten_training

from backend.labeling.rle import decode_mask, encode_mask
from backend.loop.context import open_project
from model.learners import decoder

LABEL = '<BrushLabels name="c" toName="i"><Label value="bright"/></BrushLabels>'
CONFIG = f'<View><Image name="i" value="$image"/>{LABEL}</View>'
IMAGES, K = 24, 4


class MaskProject(LoopProject):
    """The bright half of each image is painted."""

    @staticmethod
    def answer_of(name: str) -> list[dict[str, Any]]:
        return [painted(name)]


def half(name: str) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    first = CLASSES.index(name) * SIDE // 2
    mask[:, first : first + SIDE // 2] = True
    return mask


def painted(name: str) -> dict[str, Any]:
    value = {"format": "rle", "rle": encode_mask(half(name)), "brushlabels": ["bright"]}
    sizes = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    return {"from_name": "c", "to_name": "i", "type": "brushlabels", "value": value, **sizes}


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MaskProject]:
    shorten_training(monkeypatch)
    monkeypatch.setattr(decoder, "STEPS", 60)
    made = MaskProject(tmp_path, monkeypatch, CONFIG)
    made.add(IMAGES)
    made.connect(**{**PARAMS, **WITH_ENCODER, "labels_per_round": K, "holdout_fraction": 0.5})
    yield made
    made.store.close()


def test_masks_are_asked_learned_measured_pre_drawn_and_written_for_the_rest(
    loop: MaskProject, caplog: pytest.LogCaptureFixture
) -> None:
    loop.run()
    assert len(loop.answer(most=K + K // 2)) == K + K // 2
    loop.run()
    assert loop.stored(loop.queue(0)[0])[1]["classes"] == ["bright"]
    project = open_project(loop.context, loop.id)
    assert project.store.row().error is None
    first = project.store.rounds.get(0)
    assert (first.problem, first.labels, first.holdout_size) == ("segmentation", K, K // 2)
    assert first.holdout_quality / first.holdout_size > 0.8
    assert first.exported
    assert project.files.onnx(0).exists()
    # The next queue is asked by what masks are asked by unless the project says otherwise.
    assert project.config.sampler == "region_herding"
    assert np.load(project.files.output(0, "places")).shape[0] == IMAGES
    assert "asking by" not in caplog.text
    # It is pre-drawn, but for the holdout.
    drawn = {task: loop.predicted(task, loop.round.model_version) for task in loop.queue()}
    assert sum(map(bool, drawn.values())) == K
    for task, regions in drawn.items():
        for region in regions:
            mask = decode_mask(region["value"]["rle"], SIDE, SIDE)
            assert region["value"]["brushlabels"] == ["bright"]
            assert (mask == half(loop.truth[task])).mean() > 0.85
    labeled = loop.label_the_rest(images=10)
    assert labeled
    assert all(loop.predicted(task, "pt4al-final-r000") for task in labeled)
