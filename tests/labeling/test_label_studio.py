"""What a real Label Studio does with predictions and annotations of each labeling."""

import pytest
from support.labelings import IMAGE, REGIONS, TREE, choices, tag, view

from backend.demo.annotator import Annotator
from backend.errors import ProjectError
from backend.labeling.answers import targets_of
from backend.labeling.base import Item, Labeling
from backend.labeling.reader import read_labeling
from backend.studio.project import LabelStudio
from backend.studio.types import Prediction
from model.problems.base import Target

ALIASES = '<Choice value="Big cat" alias="cat"/><Choice value="dog"/>'
CONTROLS = {
    "single": choices(ALIASES),
    "multiple": choices(ALIASES, extra='choice="multiple"'),
    "nested": choices(TREE, extra='allowNested="true"'),
    "nested, flat": choices(extra='allowNested="true"'),
    "nested and multiple": choices(TREE, extra='allowNested="true" choice="multiple"'),
    "taxonomy": tag("Taxonomy", TREE),
    "taxonomy, one usage": tag("Taxonomy", TREE, extra='maxUsages="1" leafsOnly="true"'),
    "rating": tag("Rating", "", extra='maxRating="7"'),
    **{name: REGIONS[name] for name in ("rectanglelabels", "labels, rectangles")},
}


def targets_with(labeling: Labeling) -> list[Target]:
    """Return targets of these classes: every one, and none where that is an answer."""
    if labeling.problem == "single_label":
        return list(labeling.classes)
    if labeling.problem == "detection":
        boxes = [[name, 0.1, 0.2, 0.25, 0.5] for name in labeling.classes]
        return [[], boxes[:1], boxes]
    return [[], [labeling.classes[-1]], list(labeling.classes)]


@pytest.mark.parametrize("name", CONTROLS)
def test_label_studio_takes_each_prediction_and_gives_the_answer_back(
    name: str, person: Annotator, studio: LabelStudio
) -> None:
    config = view(IMAGE, CONTROLS[name])
    labeling = read_labeling(config)
    project = studio.project(person.create_project(name, config))
    targets = targets_with(labeling)
    person.import_tasks(project.id, [{"data": {"image": f"/data/none/{i}.png"}} for i in range(len(targets))])
    tasks = project.tasks.ids()
    results = [labeling.result(target, Item()) for target in targets]
    predictions = [Prediction(task, 0.5, "v1", result) for task, result in zip(tasks, results, strict=True)]
    assert project.predictions.write(predictions) == []
    assert project.predictions.versions() == {"v1": len(targets)}
    stored = {task: [p["result"] for p in person.call("GET", f"/api/predictions?task={task}")] for task in tasks}
    assert stored == {task: [result] for task, result in zip(tasks, results, strict=True)}
    for task, result in zip(tasks, results, strict=True):
        person.annotate(task, result)
    read = [targets_of(task.annotations, labeling) for task in project.tasks.by_id(tasks)]
    assert read == [[target] for target in targets]


def test_every_template_of_label_studio_is_read_or_refused(person: Annotator) -> None:
    read, refused = {}, {}
    for template in person.call("GET", "/api/templates/")["templates"]:
        try:
            read[template["title"]] = read_labeling(template["config"])
        except ProjectError as error:
            refused[template["title"]] = str(error)
    assert len(read) + len(refused) > 50
    assert read["Image Classification"].classes == ("Adult content", "Weapons", "Violence")
    assert read["Image Classification"].notice is None
    assert all(any(word in sentence for word in ("<Image", "<Choices", "<Label>")) for sentence in refused.values())
    boxes = ("Object Detection with Bounding Boxes", "Keypoint Labeling", "Optical Character Recognition")
    assert {read[title].problem for title in boxes} == {"detection"}
