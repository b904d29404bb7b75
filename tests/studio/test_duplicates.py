"""What a real Label Studio calls a duplicate, and what becomes of a task's data when somebody replaces them."""

from backend.demo.annotator import Annotator
from backend.studio.project import LabelStudio

ANSWER = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}]


def test_tasks_of_equal_losses_are_duplicates_and_others_are_not(
    person: Annotator, studio: LabelStudio, project: int
) -> None:
    person.import_tasks(project, [{"data": {"image": f"/data/none/{one}.png"}} for one in (1, 1, 2, 2, 3)])
    tasks = studio.project(project).tasks
    first, second, third, fourth, fifth = tasks.ids()
    tasks.set_field([first, second, fifth], "pretext_loss", 0.5)
    tasks.set_field([third], "pretext_loss", 0.25)
    tasks.set_field([fourth], "pretext_loss", 0.26)
    person.annotate(second, ANSWER)
    tasks.action("remove_duplicates", [first, second, third, fourth, fifth])
    assert tasks.ids() == [second, third, fourth, fifth], "the one with an answer stays, other losses are other data"


def test_data_that_somebody_replaces_lose_our_fields(person: Annotator, studio: LabelStudio, project: int) -> None:
    person.import_tasks(project, [{"data": {"image": "/data/none/1.png"}}])
    tasks = studio.project(project).tasks
    (task,) = tasks.ids()
    tasks.set_field([task], "pretext_loss", 0.5)
    assert tasks.by_id([task])[0].data == {"image": "/data/none/1.png", "pretext_loss": 0.5}
    person.call("PATCH", f"/api/tasks/{task}/", {"data": {"image": "/data/none/1.png?signature=2"}})
    assert tasks.by_id([task])[0].data == {"image": "/data/none/1.png?signature=2"}
