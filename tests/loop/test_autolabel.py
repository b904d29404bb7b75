"""The autolabel job, on a fake Label Studio and with a model that the loop has trained."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loop_project import LoopProject, shorten_training

from backend.autolabel.preview import autolabel_version
from backend.autolabel.step import autolabel
from backend.errors import StudioUnreachable
from backend.loop.context import open_project
from backend.studio import predictions
from backend.studio.types import Prediction

IMAGES, ASKED = 30, 4
VERSION = autolabel_version(0)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project with one trained model, and predictions ordered of it for every unlabeled image."""
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = LoopProject(tmp_path, monkeypatch)
    made.add(IMAGES)
    made.connect()
    made.run()
    made.answer(ASKED)
    made.run()
    order(made)
    yield made
    made.store.close()


def order(loop: LoopProject, confidence: float = 0.0) -> None:
    loop.store.of(loop.id).autolabel.order(
        number=0, confidence=confidence, temperature=1.0, images=IMAGES - ASKED, errors=0.0
    )


def run(loop: LoopProject) -> None:
    project = open_project(loop.context, loop.id)
    autolabel(project.store, project.studio, project.files, project.labeling, lambda share: None)


def unlabeled(loop: LoopProject) -> set[int]:
    tasks = loop.server.projects[loop.studio.id].tasks.values()
    return {task.id for task in tasks if not task.annotations}


def test_autolabel_predicts_what_nobody_labeled_and_leaves_the_queue(loop: LoopProject) -> None:
    queue, info = loop.posted(), loop.studio.settings()
    assert "autolabel" in loop.run()
    scores = loop.posted(VERSION)
    assert set(scores) == unlabeled(loop)
    assert all(0.5 <= score <= 1 for score in scores.values() if score is not None)
    assert (loop.posted(), loop.studio.settings()) == (queue, info)
    written = loop.store.of(loop.id).autolabel.get()
    assert (written.written_at is not None, written.images) == (True, IMAGES - ASKED)
    assert "autolabel" not in loop.run()


def test_autolabel_writes_only_what_is_confident_enough(loop: LoopProject) -> None:
    run(loop)
    scores = sorted(score for score in loop.posted(VERSION).values() if score is not None)
    middle = (scores[9] + scores[10]) / 2
    order(loop, middle)
    run(loop)
    assert sorted(score for score in loop.posted(VERSION).values() if score is not None) == scores[10:]


def test_autolabel_continues_after_a_lost_answer_without_doubles(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "IMPORTED", 10)
    count = iter(range(100))

    def fail(request: str) -> None:
        if "import/predictions" in request and next(count) == 1:
            raise StudioUnreachable("no answer")

    loop.server.after = fail
    with pytest.raises(StudioUnreachable):
        run(loop)
    assert len(loop.posted(VERSION)) == 20
    assert loop.store.of(loop.id).autolabel.get().written_at is None
    run(loop)
    assert set(loop.posted(VERSION)) == unlabeled(loop)


def test_autolabel_replaces_what_is_wrong_and_what_is_superseded(loop: LoopProject) -> None:
    run(loop)
    scores = loop.posted(VERSION)
    first = min(scores)
    labeled = min(set(loop.truth) - set(scores))
    older = autolabel_version(7)
    loop.studio.predictions.write(
        [Prediction(first, 0.123, VERSION), Prediction(labeled, 0.9, VERSION), Prediction(first, 0.9, older)]
    )
    order(loop)
    run(loop)
    assert loop.posted(VERSION) == scores
    assert older not in loop.studio.predictions.versions()


def test_an_order_whose_model_is_gone_is_dropped(loop: LoopProject) -> None:
    folder = loop.context.settings.data_dir / "projects" / str(loop.id)
    for path in folder.glob("round-000*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(loop)
    assert loop.store.of(loop.id).autolabel.get() is None
    assert VERSION not in loop.studio.predictions.versions()
