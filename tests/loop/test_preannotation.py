"""What a queue's prediction shows the annotator."""

import pytest

from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.loop.steps.queue import _preannotation
from backend.store import AskRole, AskRow

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="animal" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


def guess(role: AskRole, label: str | None = "cat", *, preannotate: bool = True) -> list[str]:
    labeling = read_labeling(CONFIG) if preannotate else None
    shown = _preannotation(AskRow(task_id=1, role=role, prediction=label), labeling, Item())
    return [choice for region in shown for choice in region["value"]["choices"]]


@pytest.mark.parametrize("role", [AskRole.QUERY, AskRole.RESERVE])
def test_asked_images_show_the_models_preannotation(role: AskRole) -> None:
    assert guess(role) == ["cat"]


def test_the_holdout_shows_nothing_so_that_its_labels_owe_the_model_nothing() -> None:
    assert guess(AskRole.HOLDOUT) == []


def test_nothing_is_shown_without_a_preannotation_where_it_is_switched_off_or_for_a_class_that_is_gone() -> None:
    assert guess(AskRole.QUERY, None) == []
    assert guess(AskRole.QUERY, preannotate=False) == []
    assert guess(AskRole.QUERY, "horse") == []
