"""What a real Label Studio does with predictions and annotations of each labeling."""

import pytest
from support.labelings import IMAGE, TREE, choices, tag, view

from backend.demo.annotator import Annotator
from backend.errors import ProjectError
from backend.labeling.answers import targets_of
from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.studio.project import LabelStudio
from backend.studio.types import Prediction

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
}


@pytest.mark.parametrize("name", CONTROLS)
def test_label_studio_takes_each_prediction_and_gives_the_answer_back(
    name: str, person: Annotator, studio: LabelStudio
) -> None:
    config = view(IMAGE, CONTROLS[name])
    labeling = read_labeling(config)
    project = studio.project(person.create_project(name, config))
    single = labeling.problem == "single_label"
    targets = list(labeling.classes) if single else [[], [labeling.classes[-1]], list(labeling.classes)]
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
    assert all("<Image" in sentence or "<Choices" in sentence for sentence in refused.values())
