"""Views in the loop: written with the features, filled in where a project changes to labels that need them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.fake_encoder import use_fake_encoders
from support.loop_project import SIDE, WITH_ENCODER, LoopProject, shorten_training

from backend.items.sizes import items_of
from backend.labeling.base import Item
from backend.loop.context import open_project
from model.data.decoding import Sides, decode_with_depth
from model.data.views import ViewBank
from model.problems.single_label import SingleLabel

VIEW, IMAGES = 24, 12


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project before it is connected; nothing is exported."""
    use_fake_encoders(monkeypatch)
    shorten_training(monkeypatch)
    monkeypatch.setattr("model.export.export", lambda *_, **__: None)
    made = LoopProject(tmp_path, monkeypatch)
    made.add(IMAGES)
    yield made
    made.store.close()


def views_of(loop: LoopProject) -> ViewBank:
    return ViewBank.open(open_project(loop.context, loop.id).files.views(VIEW))


def are_right(loop: LoopProject) -> bool:
    """Tell whether every image has its view, and its size."""
    project, views = open_project(loop.context, loop.id), views_of(loop)
    references = dict(project.store.tasks.references(sorted(loop.truth)))
    for task, index in project.store.tasks.pool_indices(sorted(loop.truth)).items():
        expected = decode_with_depth(loop.server.files[references[task]], Sides(8, view=VIEW)).view
        place = np.array([index])
        if not (views.gather(place)[0] == expected).all() or views.sizes(place).tolist() != [[SIDE, SIDE]]:
            return False
    return True


def test_views_come_with_the_images_where_the_problem_asks_for_them(loop, monkeypatch):
    monkeypatch.setattr(SingleLabel, "view_side", VIEW)
    loop.connect(**WITH_ENCODER)
    assert loop.run().count("embed") == 0
    assert are_right(loop)
    project = open_project(loop.context, loop.id)
    tasks = sorted(loop.truth)
    assert items_of(project.store, project.files, project.labeling, tasks) == dict.fromkeys(tasks, Item(SIDE, SIDE))
    loop.add(3)
    loop.run()
    assert are_right(loop)


def test_other_problems_pay_nothing(loop):
    loop.connect(**WITH_ENCODER)
    loop.run()
    project = open_project(loop.context, loop.id)
    assert list(project.files.folder.glob("views-*")) == []
    assert items_of(project.store, project.files, project.labeling, sorted(loop.truth)) == {}


def test_a_project_that_changes_to_such_a_problem_gets_views_for_all_its_images(loop, monkeypatch):
    loop.connect(**WITH_ENCODER)
    loop.run()
    features = open_project(loop.context, loop.id).store.row().features_key
    monkeypatch.setattr(SingleLabel, "view_side", VIEW)
    assert "embed" in loop.run()
    assert are_right(loop)
    assert open_project(loop.context, loop.id).store.row().features_key == features
    assert "embed" not in loop.run()


def test_lost_views_are_made_again_and_an_image_that_is_gone_keeps_its_place(loop, monkeypatch):
    monkeypatch.setattr(SingleLabel, "view_side", VIEW)
    loop.connect(**WITH_ENCODER)
    loop.run()
    project = open_project(loop.context, loop.id)
    shutil.rmtree(project.files.views(VIEW))
    (task, reference), *_ = project.store.tasks.references(sorted(loop.truth))
    del loop.server.files[reference]
    assert "embed" in loop.run()
    index = project.store.tasks.pool_indices([task])[task]
    assert views_of(loop).known.all()
    assert views_of(loop).letterboxes(np.array([index]))[0].content == (VIEW, VIEW)
    assert task not in {
        known for known, item in items_of(project.store, project.files, project.labeling, sorted(loop.truth)).items()
        if item.width
    }  # fmt: skip
