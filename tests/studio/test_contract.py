"""What the loop rests on, on a real Label Studio and on the fake one: the same cases.

A case that fails on the real server says that Label Studio has changed; one that fails on the fake, that the loop's
tests cannot be trusted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from support.fake_label_studio import FakeLabelStudio
from support.labelstudio import LabelStudioServer
from support.people import Person
from support.postgres import Postgres
from support.studio_web import Web

from backend.errors import StudioError, StudioMissing
from backend.studio import predictions, tasks
from backend.studio.project import LabelStudio, StudioProject
from backend.studio.types import Prediction, parse_time

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices><BrushLabels name="mask" toName="image">'
    '<Label value="fur"/></BrushLabels></View>'
)
CAT = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}]
MASK = {
    "from_name": "mask", "to_name": "image", "type": "brushlabels", "original_width": 2, "original_height": 2,
    "image_rotation": 0, "value": {"format": "rle", "rle": [], "brushlabels": ["fur"]},
}  # fmt: skip
UNCERTAINTY = "Uncertainty sampling"


@dataclass
class Place:
    """One of the two servers, with an empty project on it."""

    studio: Any
    person: Person
    second: Callable[[], Person]
    id: int
    wait: Callable[[float], None]
    backend_url: str

    @property
    def project(self) -> StudioProject:
        return self.studio.project(self.id)

    def tasks(self, number: int) -> list[int]:
        self.person.make_tasks(self.id, number)
        return self.project.tasks.ids()[-number:]

    def predict(self, scores: dict[int, float], version: str = "v1") -> None:
        """Write predictions, serve them by uncertainty."""
        self.project.predictions.write([Prediction(task, score, version, CAT) for task, score in scores.items()])
        self.project.update(sampling=UNCERTAINTY, model_version=version)

    def stamps(self) -> dict[int, str]:
        return {task.id: task.updated_at for task in self.project.tasks.by_id(self.project.tasks.ids())}


@pytest.fixture(params=["fake", "real"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "fake":
        fake = FakeLabelStudio()
        person = fake.person()
        made = person.create_project("contract", CONFIG)
        return Place(fake, person, lambda: fake.person("second"), made, fake.clock.advance, "http://backend:9090")
    server: LabelStudioServer = request.getfixturevalue("label_studio")
    studio: LabelStudio = request.getfixturevalue("studio")
    backend: Web = request.getfixturevalue("backend")
    person = Person(server.url, server.email, server.password)
    number = person.create_project("contract", CONFIG)

    def second() -> Person:
        return Person(server.url, f"second-{number}@example.com", "label-studio-1", sign_up=True)

    return Place(studio, person, second, number, time.sleep, backend.url)


# The project


def test_settings_tell_what_a_new_project_is(place: Place) -> None:
    place.tasks(2)
    info = place.project.settings()
    assert (info.id, info.title, info.label_config) == (place.id, "contract", CONFIG)
    assert (info.sampling, info.model_version, info.task_number) == ("Sequential sampling", "", 2)


def test_what_people_save_on_the_settings_pages_is_read(place: Place) -> None:
    wider = CONFIG.replace('<Choice value="dog"/>', '<Choice value="dog"/><Choice value="bird"/>')
    place.person.change_project(place.id, label_config=wider, title="renamed", sampling="Uniform sampling")
    info = place.project.settings()
    assert (info.label_config, info.title, info.sampling) == (wider, "renamed", "Uniform sampling")


def test_a_deleted_project_is_missing(place: Place) -> None:
    place.person.delete_project(place.id)
    with pytest.raises(StudioMissing):
        place.project.settings()
    with pytest.raises(StudioMissing):
        place.studio.project(999_999).settings()


def test_a_version_is_accepted_once_a_prediction_has_it(place: Place) -> None:
    (task,) = place.tasks(1)
    with pytest.raises(StudioError, match="Model version doesn't exist"):
        place.project.update(model_version="v1")
    place.predict({task: 0.5})
    info = place.project.settings()
    assert (info.model_version, info.sampling) == ("v1", UNCERTAINTY)


def test_a_sampling_that_does_not_exist_is_refused(place: Place) -> None:
    with pytest.raises(StudioError):
        place.project.update(sampling="By hand")


# Tasks


def changed(place: Place, since: str | None) -> tuple[list[int], str]:
    """Return the ids of changed tasks, oldest change first, and the cursor behind them."""
    pages = list(place.project.tasks.changed(since))
    return [task.id for page in pages for task in page.tasks], pages[-1].cursor


def test_recent_changes_come_again_and_older_ones_do_not(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "OVERLAP", tasks.timedelta(seconds=2))
    ids = place.tasks(3)
    first, cursor = changed(place, None)
    again, _ = changed(place, cursor)
    assert first == again == ids  # still within the overlap
    place.wait(4)
    _, cursor = changed(place, cursor)
    place.person.annotate(ids[1], CAT)
    assert changed(place, cursor)[0] == [ids[1]]


def test_changes_are_read_page_by_page(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PAGE", 2)
    ids = place.tasks(5)
    place.person.annotate(ids[3], CAT)
    place.person.skip(ids[0])
    pages = list(place.project.tasks.changed(None))
    read = [task for page in pages for task in page.tasks]
    assert len(pages) >= 3
    assert (sorted(task.id for task in read), [task.id for task in read[-2:]]) == (ids, [ids[3], ids[0]])
    assert [task.annotations[0].skipped for task in read[-2:]] == [False, True]
    assert read[-2].annotations[0].result[0]["value"] == {"choices": ["cat"]}


def test_tasks_that_are_imported_meanwhile_are_changes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "OVERLAP", tasks.timedelta(0))
    place.tasks(2)
    place.wait(1.1)  # a real server's clock is known to a second
    _, cursor = changed(place, None)
    more = place.tasks(2)
    assert changed(place, cursor)[0] == more
    assert place.project.settings().task_number == 4


def test_deleted_tasks_are_gone_without_a_change(place: Place) -> None:
    first, second, third = place.tasks(3)
    place.person.delete_task(second)
    place.person.act(place.id, "delete_tasks", [third])
    assert place.project.tasks.ids() == [first]
    assert [task.id for task in place.project.tasks.by_id([first, second, third])] == [first]
    assert place.project.tasks.existing([first, second]) == {first}
    assert place.project.settings().task_number == 1


def test_what_moves_the_time_of_a_change(place: Place) -> None:
    task, other = place.tasks(2)

    def moved(what: Callable[..., Any], *given: Any, **named: Any) -> set[int]:
        before = place.stamps()
        what(*given, **named)
        return {one for one, stamp in place.stamps().items() if stamp != before[one]}

    answers: list[int] = []
    assert moved(lambda: answers.append(place.person.annotate(task, CAT))) == {task}
    assert moved(place.person.change_annotation, answers[0], result=[]) == {task}
    assert moved(place.person.delete_annotation, answers[0]) == {task}
    assert moved(place.person.skip, other) == {other}
    assert moved(place.person.act, place.id, "delete_tasks_annotations", [other]) == {other}
    assert moved(place.person.change_task, task, {"image": "/x.png"}) == {task}
    assert moved(place.project.tasks.set_field, [task], "pretext_loss", 0.5) == set()
    assert moved(place.predict, {task: 0.1, other: 0.2}) == set()
    (prediction, _) = place.project.predictions.stored("v1")
    assert moved(place.project.predictions.delete, [prediction.id]) == {prediction.task}
    assert moved(place.project.predictions.delete_version, "v1") == set()


def test_a_bulk_action_gives_all_tasks_one_time(place: Place) -> None:
    ids = place.tasks(4)
    for task in ids[1:]:
        place.person.annotate(task, CAT)
    place.person.act(place.id, "delete_tasks_annotations", ids[1:])
    stamps = place.stamps()
    assert len({stamps[task] for task in ids[1:]}) == 1
    assert parse_time(stamps[ids[1]]) > parse_time(stamps[ids[0]])


def test_annotations_made_from_predictions_are_told_from_a_persons(place: Place) -> None:
    made, empty, changed, person, script = place.tasks(5)
    place.predict({made: 0.1, changed: 0.2})
    place.project.predictions.write([Prediction(empty, 0.3, "v1", ())])
    place.person.annotate(person, CAT)
    place.person.call("POST", f"/api/tasks/{script}/annotations/", {"result": CAT})
    place.person.act(place.id, "predictions_to_annotations", [made, empty, changed], model_version="v1")

    def of(task: int) -> tuple[list[dict[str, Any]], bool, bool]:
        ((one,),) = (record.annotations for record in place.project.tasks.by_id([task]))
        return list(one.result), one.by_model, one.timed

    assert of(made) == (CAT, True, False)
    assert of(empty) == ([], True, False)
    assert of(person) == (CAT, False, True)
    assert of(script) == (CAT, False, False)
    ((given,),) = (record.annotations for record in place.project.tasks.by_id([changed]))
    place.person.change_annotation(given.id, result=CAT, lead_time=2.0)  # as the interface saves it
    assert of(changed) == (CAT, False, True)
    place.project.predictions.delete_version("v1")
    assert of(made) == (CAT, False, False)  # Label Studio forgets where it comes from


def test_a_field_is_a_number_beside_the_data_that_is_there(place: Place) -> None:
    first, second = place.tasks(2)
    place.project.tasks.set_field([first], "pretext_loss", 9.5e-05)
    place.project.tasks.set_field([first], "pretext_batch", 3)
    there, other = place.project.tasks.by_id([first, second])
    assert (there.data["pretext_loss"], there.data["pretext_batch"]) == (9.5e-05, 3)
    assert there.data["image"].endswith(".png")
    assert list(other.data) == ["image"]
    place.person.change_task(first, {"image": "/x.png"})  # replaces all of it
    assert place.project.tasks.by_id([first])[0].data == {"image": "/x.png"}


# Predictions


@pytest.mark.parametrize(
    "result", [[{**CAT[0], "value": {"choices": ["bird"]}}], [MASK]], ids=["unknown label", "empty mask"]
)
def test_a_prediction_that_label_studio_cannot_show_is_left_out(place: Place, result: list[dict[str, Any]]) -> None:
    first, second = place.tasks(2)
    with pytest.raises(StudioError, match="left out 1 of 2 predictions"):
        place.project.predictions.write([Prediction(first, 0.5, "v1", result), Prediction(second, 0.5, "v1", CAT)])
    assert [stored.task for stored in place.project.predictions.stored("v1")] == [second]


def test_a_deleted_task_refuses_the_whole_request_and_write_leaves_it_out(place: Place) -> None:
    first, second = place.tasks(2)
    place.person.delete_task(first)
    body = [{"task": task, "score": 0.5, "model_version": "v1", "result": []} for task in (second, first)]
    with pytest.raises(StudioError):
        place.studio.session.call("POST", f"/api/projects/{place.id}/import/predictions", body=body)
    assert place.project.predictions.stored("v1") == []
    assert place.project.predictions.write([Prediction(task, 0.5, "v1") for task in (first, second)]) == [first]
    assert [(stored.task, stored.score) for stored in place.project.predictions.stored("v1")] == [(second, 0.5)]


def test_a_version_is_taken_whole_and_doubles_are_kept(place: Place) -> None:
    first, second = place.tasks(2)
    for task, version in ((first, "pt4al-r001"), (first, "pt4al-r001"), (second, "pt4al-r001-pool")):
        place.project.predictions.write([Prediction(task, 0.5, version)])
    assert [stored.task for stored in place.project.predictions.stored("pt4al-r001")] == [first, first]
    assert place.project.predictions.versions() == {"pt4al-r001": 2, "pt4al-r001-pool": 1}


def test_deleting_a_version_takes_it_off_the_project_and_leaves_the_others(place: Place) -> None:
    first, second = place.tasks(2)
    place.predict({first: 0.5}, "old")
    place.predict({first: 0.5, second: 0.6}, "new")
    assert place.project.predictions.delete_version("old")
    assert (place.project.predictions.versions(), place.project.settings().model_version) == ({"new": 2}, "new")
    place.person.delete_version(place.id, "new")
    assert (place.project.predictions.versions(), place.project.settings().model_version) == ({}, "")


def test_a_version_goes_in_pieces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "DELETED", 2)
    ids = place.tasks(5)
    place.predict(dict.fromkeys(ids, 0.5), "old")
    place.predict({ids[4]: 0.5}, "new")
    assert not place.project.predictions.delete_version("old", most=2)
    assert 0 < place.project.predictions.versions()["old"] < 5
    while not place.project.predictions.delete_version("old", most=2):
        pass
    assert place.project.predictions.versions() == {"new": 1}


# The label stream


def served(person: Person, place: Place) -> int | None:
    task = person.next_task(place.id)
    return None if task is None else task.id


def test_uncertainty_sampling_serves_the_projects_version_lowest_score_first(place: Place) -> None:
    ids = place.tasks(4)
    place.predict({ids[0]: 0.05}, "old")
    place.predict({ids[1]: 0.4, ids[3]: 0.1, ids[2]: 0.3}, "new")
    order = []
    for _ in range(3):
        task = served(place.person, place)
        assert task is not None
        place.person.annotate(task, CAT)
        order.append(task)
    assert order == [ids[3], ids[2], ids[1]]
    assert served(place.person, place) == ids[0]  # no task of the version is left: any other


def test_right_after_connecting_any_task_is_served(place: Place) -> None:
    ids = place.tasks(30)
    place.person.connect_backend(place.id, place.backend_url, title="Ours")
    place.project.update(sampling=UNCERTAINTY)
    first = [served(place.person, place), served(place.second(), place)]
    assert len({*first}) == 2
    assert set(first) < set(ids)
    assert sorted(first) != ids[:2]  # one of 435 pairs


def test_after_its_version_was_deleted_the_tasks_without_predictions_are_served(
    place: Place, databases: Postgres | None
) -> None:
    ids = place.tasks(6)
    place.predict({ids[0]: 0.1}, "old")
    place.predict({ids[1]: 0.1}, "new")
    place.person.delete_version(place.id, "new")
    found = [served(place.person, place), served(place.second(), place)]
    if databases is None:
        assert found == ids[1:3]
    else:  # none of them has a score, and PostgreSQL has no order of its own
        assert len(set(found) & set(ids[1:])) == 2


def test_each_annotator_gets_a_task_of_his_own(place: Place) -> None:
    ids = place.tasks(3)
    place.predict({ids[2]: 0.1, ids[1]: 0.2, ids[0]: 0.3})
    second = place.second()
    assert (served(place.person, place), served(second, place)) == (ids[2], ids[1])
    second.skip(ids[1])
    assert served(second, place) == ids[0]  # what was skipped does not come back to the same person
    place.person.annotate(ids[2], CAT)
    assert served(place.person, place) == ids[1]  # but goes to others


def test_a_task_that_was_opened_before_comes_first(place: Place) -> None:
    ids = place.tasks(3)
    place.predict({ids[0]: 0.5}, "old")
    assert served(place.person, place) == ids[0]
    place.predict({ids[2]: 0.1}, "new")
    assert served(place.person, place) == ids[0]
    place.person.annotate(ids[0], CAT)
    assert served(place.person, place) == ids[2]


def test_the_stream_ends_when_everything_is_answered(place: Place) -> None:
    (task,) = place.tasks(1)
    place.person.annotate(task, CAT)
    assert served(place.person, place) is None


def test_with_two_annotations_a_task_goes_to_two_people(place: Place) -> None:
    (task,) = place.tasks(1)
    place.person.change_project(place.id, maximum_annotations=2)
    second = place.second()
    place.person.annotate(task, CAT)
    assert served(place.person, place) is None
    assert served(second, place) == task
    second.annotate(task, [{**CAT[0], "value": {"choices": ["dog"]}}])
    (record,) = place.project.tasks.by_id([task])
    assert [one.result[0]["value"]["choices"] for one in record.annotations] == [["cat"], ["dog"]]
    assert served(second, place) is None


# What is connected


def test_connecting_sets_the_version_to_the_title_and_makes_a_webhook(place: Place) -> None:
    entry = place.person.connect_backend(place.id, place.backend_url, {"rounds": 5}, title="Ours")
    (card,) = place.project.ml_backends()
    assert (card.id, card.url, card.title, card.description, card.state) == (entry, place.backend_url, "Ours", "", "CO")
    assert card.version == "v0"  # what the model has answered to /setup
    assert place.project.settings().model_version == "Ours"
    (hook,) = place.project.webhooks()
    assert (hook.url, hook.is_active, hook.send_payload) == (f"{place.backend_url}/webhook", True, True)
    place.project.describe_backend(card, "round 1")
    assert place.project.ml_backends() == [replace(card, description="round 1")]
    place.person.disconnect_backend(entry)
    assert place.project.ml_backends() == []
    assert place.project.settings().model_version == ""


def test_webhook_and_tab_are_made_once(place: Place) -> None:
    place.tasks(1)
    for secret in ("one", "two", "two"):
        place.project.ensure_webhook("http://127.0.0.1:9/webhook", {"X-Secret": secret})
    assert [dict(hook.headers) for hook in place.project.webhooks()] == [{"X-Secret": "two"}]
    assert place.project.ensure_tab("PT4AL queue") == place.project.ensure_tab("PT4AL queue")
    titles = [view["data"]["title"] for view in place.person.call("GET", "/api/dm/views/", project=place.id)]
    assert titles == ["Default", "PT4AL queue"]
