import json
import threading
import time
from dataclasses import replace

import pytest
from support.studio_web import Web, png

from backend.demo.annotator import Annotator
from backend.errors import StudioError
from backend.studio import predictions, tasks
from backend.studio.project import LabelStudio, StudioProject
from backend.studio.types import Prediction

RESULT = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}]
LONG_AGO = "2020-01-01T00:00:00.000000Z"


def scores_of(project: StudioProject, version: str) -> dict[int, float | None]:
    return {one.task: one.score for one in project.predictions.stored(version)}


def stamps(studio, project):
    return {
        task.id: task.updated_at for task in studio.project(project).tasks.by_id(studio.project(project).tasks.ids())
    }


def act(person, project, action, ids, **fields):
    selection = {"selectedItems": {"all": False, "included": ids}, "project": str(project), **fields}
    return person.call("POST", "/api/dm/actions/", selection, id=action, project=project)


def write(studio, project, ids, version, score=0.5):
    items = [Prediction(task, score, version, RESULT) for task in ids]
    assert studio.project(project).predictions.write(items) == []


# The project


def test_project_tells_settings_and_counts(studio: LabelStudio, person: Annotator, project, make_tasks):
    first, second, _ = make_tasks(3)
    person.annotate(first, RESULT)
    person.skip(second)
    info = studio.project(project).settings()
    assert info.task_number == 3
    assert (info.id, info.sampling) == (project, "Sequential sampling")
    assert info.label_config.startswith("<View>")
    assert 0 <= time.time() - info.created_ts < 60


def test_update_project_sets_sampling_and_version_and_leaves_the_rest(studio: LabelStudio, project, make_tasks):
    write(studio, project, make_tasks(1), "v1")
    studio.project(project).update(sampling="Uncertainty sampling", model_version="v1")
    studio.project(project).update(model_version="v1")
    info = studio.project(project).settings()
    assert (info.sampling, info.model_version) == ("Uncertainty sampling", "v1")


# Tasks


def test_changed_tasks_reads_all_of_a_project_page_by_page(
    studio: LabelStudio, person, project, make_tasks, monkeypatch
):
    monkeypatch.setattr(tasks, "PAGE", 3)
    ids = make_tasks(10)
    person.annotate(ids[4], RESULT)
    person.skip(ids[0])
    pages = list(studio.project(project).tasks.changed(None))
    found = [task for page in pages for task in page.tasks]
    assert sorted(task.id for task in found) == ids
    assert [task.updated_at for task in found] == sorted(task.updated_at for task in found)
    assert [task.id for task in found[-2:]] == [ids[4], ids[0]]
    annotated, skipped = found[-2].annotations[0], found[-1].annotations[0]
    assert (annotated.skipped, skipped.skipped) == (False, True)
    assert annotated.result[0]["value"] == {"choices": ["cat"]}


def test_tasks_come_in_full_pages_of_uploads(studio: LabelStudio, person, project):
    # Label Studio's query for their files grows with the page, and SQLite bounds it.
    count = tasks.FIRST_PAGE + tasks.PAGE + 1
    person.upload_images(project, [(f"{number}.png", png()) for number in range(count)])
    pages = [len(page.tasks) for page in studio.project(project).tasks.changed(None)]
    assert pages == [tasks.FIRST_PAGE, tasks.PAGE - 1, 2]  # the last one of a page comes again, with its moment
    assert len(studio.project(project).tasks.ids()) == count


def test_pages_are_bounded_by_bytes(studio: LabelStudio, person, project, make_tasks, monkeypatch):
    """Answers of 40 kB each: of the second page on, as many as the first has shown to fit."""
    monkeypatch.setattr(tasks, "FIRST_PAGE", 3)
    monkeypatch.setattr(tasks, "SMALLEST_PAGE", 1)
    monkeypatch.setattr(tasks, "PAGE_BYTES", 90_000)
    ids = make_tasks(8)
    for task in ids:
        person.annotate(task, [{**RESULT[0], "meta": {"text": ["x" * 40_000]}}])
    known = studio.project(project).tasks
    pages = [[task.id for task in page.tasks] for page in known.changed(None)]
    assert (len(pages[0]), sorted(task for page in pages for task in page)) == (3, ids)
    assert all(len(page) <= 2 for page in pages[1:])
    assert [task.id for task in known.by_id(ids)] == ids


def test_changed_tasks_goes_on_where_its_cursor_stands(studio: LabelStudio, person, project, make_tasks, monkeypatch):
    monkeypatch.setattr(tasks, "OVERLAP", tasks.timedelta(0))
    ids = make_tasks(5)
    time.sleep(1.1)  # the server's clock is known to a second
    *_, last = studio.project(project).tasks.changed(LONG_AGO)
    person.annotate(ids[1], RESULT)
    changed = [task.id for page in studio.project(project).tasks.changed(last.cursor) for task in page.tasks]
    assert changed == [ids[1]]


def test_changed_tasks_keeps_its_cursor_behind_the_servers_clock(studio: LabelStudio, project, make_tasks):
    make_tasks(2)
    (page,) = studio.project(project).tasks.changed(None)
    behind = time.time() - tasks.parse_time(page.cursor).timestamp()
    assert tasks.OVERLAP.total_seconds() <= behind < tasks.OVERLAP.total_seconds() + 5


def test_changed_tasks_passes_a_time_stamp_that_fills_pages(
    studio: LabelStudio, person, project, make_tasks, monkeypatch
):
    monkeypatch.setattr(tasks, "PAGE", 3)
    ids = make_tasks(9)
    for task in ids[1:8]:
        person.annotate(task, RESULT)
    act(person, project, "delete_tasks_annotations", ids[1:8])  # gives all seven the same time
    person.annotate(ids[0], RESULT)
    assert len({stamp for task, stamp in stamps(studio, project).items() if task in ids[1:8]}) == 1
    found = [task.id for page in studio.project(project).tasks.changed(None) for task in page.tasks]
    assert (found[0], found[-1]) == (ids[8], ids[0])
    assert sorted(found) == ids


def test_changed_tasks_reads_a_bulk_action_once(studio: LabelStudio, person, project, make_tasks, monkeypatch):
    monkeypatch.setattr(tasks, "PAGE", 3)
    monkeypatch.setattr(tasks, "OVERLAP", tasks.timedelta(0))
    ids = make_tasks(9)
    for task in ids[1:8]:
        person.annotate(task, RESULT)
    act(person, project, "delete_tasks_annotations", ids[1:8])
    time.sleep(1.1)  # the server's clock is known to a second
    *_, last = studio.project(project).tasks.changed(None)
    assert list(studio.project(project).tasks.changed(last.cursor)) == []


def test_every_change_of_answers_or_data_moves_a_task_and_our_own_writes_do_not(
    studio: LabelStudio, person: Annotator, project, make_tasks
):
    task, other = make_tasks(2)

    def moved(what, *args, **kwargs):
        before = stamps(studio, project)
        given = what(*args, **kwargs)
        return {one for one, stamp in stamps(studio, project).items() if stamp != before.get(one)}, given

    theirs, annotation = moved(person.annotate, task, RESULT)
    assert theirs == {task}
    url = f"/api/annotations/{annotation}/"
    assert moved(person.call, "PATCH", url, {"result": []})[0] == {task}
    assert moved(person.call, "PATCH", url, {"was_cancelled": True})[0] == {task}
    assert moved(person.call, "DELETE", url)[0] == {task}
    assert moved(person.skip, other)[0] == {other}
    assert moved(person.call, "PATCH", f"/api/tasks/{task}/", {"data": {"image": "/x.png"}})[0] == {task}
    assert moved(act, person, project, "delete_tasks_annotations", [other])[0] == {other}
    assert moved(studio.project(project).tasks.set_field, [task], "pretext_loss", 0.5)[0] == set()
    assert moved(write, studio, project, [task, other], "v1")[0] == set()
    assert moved(studio.project(project).predictions.delete_version, "v1")[0] == set()


def test_tasks_leaves_out_what_is_gone(studio: LabelStudio, person, project, make_tasks):
    ids = make_tasks(3)
    person.call("DELETE", f"/api/tasks/{ids[1]}/")
    assert [task.id for task in studio.project(project).tasks.by_id(ids)] == [ids[0], ids[2]]
    assert studio.project(project).tasks.by_id([]) == []
    assert studio.project(project).tasks.ids() == [ids[0], ids[2]]


def test_listing_tasks_asks_no_model_for_predictions(studio: LabelStudio, person, project, make_tasks, backend: Web):
    make_tasks(2)
    person.connect_backend(project, backend.url)
    person.call("PATCH", f"/api/projects/{project}/", {"evaluate_predictions_automatically": True})
    before = len(backend.requests)
    list(studio.project(project).tasks.changed(None))
    studio.project(project).tasks.ids()
    assert backend.requests[before:] == []


def test_set_field_writes_numbers_on_these_tasks_alone(studio: LabelStudio, project, make_tasks, monkeypatch):
    monkeypatch.setattr(tasks, "FIELD_TASKS", 2)
    ids = make_tasks(4)
    studio.project(project).tasks.set_field(ids[:3], "pretext_loss", 9.5e-05)
    studio.project(project).tasks.set_field(ids[:1], "pretext_batch", 3)
    studio.project(project).tasks.set_field([], "pretext_batch", 7)
    data = [task.data for task in studio.project(project).tasks.by_id(ids)]
    assert [one.get("pretext_loss") for one in data] == [9.5e-05, 9.5e-05, 9.5e-05, None]
    assert [one.get("pretext_batch") for one in data] == [3, None, None, None]


# Predictions


def test_import_predictions_stores_scores_and_empty_results(studio: LabelStudio, project, make_tasks):
    ids = make_tasks(3)
    studio.project(project).predictions.write(
        [Prediction(task, 0.25 * number, "v1") for number, task in enumerate(ids[:2], start=1)]
    )
    assert scores_of(studio.project(project), "v1") == {ids[0]: 0.25, ids[1]: 0.5}
    assert studio.project(project).predictions.versions() == {"v1": 2}


def test_import_predictions_leaves_out_and_names_tasks_that_are_gone(studio: LabelStudio, person, project, make_tasks):
    ids = make_tasks(3)
    person.call("DELETE", f"/api/tasks/{ids[1]}/")
    assert studio.project(project).predictions.write([Prediction(task, 0.5, "v1", RESULT) for task in ids]) == [ids[1]]
    assert set(scores_of(studio.project(project), "v1")) == {ids[0], ids[2]}


def test_import_predictions_notices_what_label_studio_drops_in_silence(studio: LabelStudio, project, make_tasks):
    ids = make_tasks(2)
    unknown = [{**RESULT[0], "value": {"choices": ["bird"]}}]
    with pytest.raises(StudioError, match="left out 1 of 2 predictions"):
        studio.project(project).predictions.write(
            [Prediction(ids[0], 0.5, "v1", unknown), Prediction(ids[1], 0.5, "v1", RESULT)]
        )


def test_predicted_tasks_takes_the_version_whole(studio: LabelStudio, project, make_tasks, monkeypatch):
    monkeypatch.setattr(tasks, "PAGE", 2)
    ids = make_tasks(5)
    write(studio, project, ids[:3], "pt4al-r001")
    write(studio, project, ids[2:], "pt4al-r001-pool")
    write(studio, project, ids[:1], "pt4al-r001")  # a double
    assert set(scores_of(studio.project(project), "pt4al-r001")) == set(ids[:3])
    assert [one.task for one in studio.project(project).predictions.stored("pt4al-r001")] == [ids[0], *ids[:3]]
    assert scores_of(studio.project(project), "pt4al") == {}


def test_delete_predictions_takes_a_version_away_in_pieces(studio: LabelStudio, project, make_tasks, monkeypatch):
    monkeypatch.setattr(predictions, "DELETED", 2)
    ids = make_tasks(7)
    write(studio, project, ids, "old")
    write(studio, project, ids[4:], "theirs")
    studio.project(project).update(model_version="theirs")
    calls = []
    call = studio.session.call

    def noting(method, path, **rest):
        calls.append((path, rest))
        return call(method, path, **rest)

    monkeypatch.setattr(studio.session, "call", noting)
    studio.project(project).predictions.delete_version("old")
    assert studio.project(project).predictions.versions() == {"theirs": 3}
    assert studio.project(project).settings().model_version == "theirs"
    pieces = [rest["body"]["selectedItems"]["included"] for path, rest in calls if path == "/api/dm/actions/"]
    assert pieces == [ids[:2], ids[2:4]]  # the others carry more than this version: one by one
    assert sum(path.startswith("/api/predictions/") for path, _ in calls) == 3


def test_annotators_can_save_while_a_version_is_deleted(studio, person, project, make_tasks, monkeypatch):
    monkeypatch.setattr(predictions, "DELETED", 20)
    ids = make_tasks(100)
    write(studio, project, ids, "old")
    saved = []
    deletion = threading.Thread(target=studio.project(project).predictions.delete_version, args=("old",))
    deletion.start()
    while deletion.is_alive():
        saved.append(person.annotate(ids[len(saved)], RESULT))
    deletion.join()
    assert studio.project(project).predictions.versions() == {}
    assert len(saved) >= 3  # in one piece, the first one would come through when all is over


# What is connected


def test_describe_backend_writes_the_text_and_changes_nothing_else(studio, person, project, backend: Web):
    person.connect_backend(project, backend.url, {"rounds": 5}, title="Ours")
    (card,) = studio.project(project).ml_backends()
    assert (card.project, card.url, card.title, card.description) == (project, backend.url, "Ours", "")
    assert json.loads(card.extra_params) == {"rounds": 5}
    studio.project(project).describe_backend(card, "labeling, round 1 of 10")
    (after,) = studio.project(project).ml_backends()
    assert after == replace(card, description="labeling, round 1 of 10")
    setups = [json.loads(body) for path, body in backend.bodies if path == "/setup"]
    assert {json.dumps(one["extra_params"]) for one in setups} == {json.dumps(card.extra_params)}


def test_describe_backend_keeps_basic_auth(studio, person, project, backend: Web):
    backend.wanted_authorization = "Basic dXNlcjpwYXNz"  # user:pass
    person.connect_backend(
        project, backend.url, auth_method="BASIC_AUTH", basic_auth_user="user", basic_auth_pass="pass"
    )
    (card,) = studio.project(project).ml_backends()
    studio.project(project).describe_backend(card, "hello")
    (after,) = studio.project(project).ml_backends()
    assert (after.description, after.state, after.auth_method, after.basic_auth_user) == (
        "hello",
        "CO",
        "BASIC_AUTH",
        "user",
    )


def test_ensure_webhook_makes_one_and_keeps_its_headers_right(studio: LabelStudio, person, project):
    url = "http://127.0.0.1:9/webhook"
    studio.project(project).ensure_webhook(url, {"X-Secret": "one"})
    (first,) = studio.project(project).webhooks()
    assert (first.url, dict(first.headers), first.send_for_all_actions) == (url, {"X-Secret": "one"}, True)
    person.call("PATCH", f"/api/webhooks/{first.id}/", {"headers": {"X-Theirs": "t"}, "send_payload": False})
    studio.project(project).ensure_webhook(url, {"X-Secret": "two"})
    studio.project(project).ensure_webhook(url, {"X-Secret": "two"})
    (second,) = studio.project(project).webhooks()
    assert second.id == first.id
    assert (dict(second.headers), second.send_payload) == ({"X-Theirs": "t", "X-Secret": "two"}, True)
    assert "two" not in repr(second)


def test_ensure_webhook_takes_over_the_one_that_label_studio_makes(studio: LabelStudio, person, project, backend: Web):
    person.connect_backend(project, backend.url)
    studio.project(project).ensure_webhook(f"{backend.url}/webhook", {"X-Secret": "one"})
    assert [dict(hook.headers) for hook in studio.project(project).webhooks()] == [{"X-Secret": "one"}]


# The tab


def test_ensure_tab_opens_one_tab_beside_the_default_one(studio: LabelStudio, person, project, make_tasks):
    make_tasks(1)
    made = studio.project(project).ensure_tab("PT4AL queue")
    assert studio.project(project).ensure_tab("PT4AL queue") == made
    views = person.call("GET", "/api/dm/views/", project=project)
    assert [view["data"]["title"] for view in views] == ["Default", "PT4AL queue"]


def test_tab_puts_the_queue_on_top_and_sorts_losses_as_numbers(studio: LabelStudio, person, project, make_tasks):
    ids = make_tasks(5)
    losses = [10.0, 9e-05, 2.5, 100.0, 0.5]  # as text: 0.5, 10.0, 100.0, 2.5, 9e-05
    for task, loss in zip(ids, losses, strict=True):
        studio.project(project).tasks.set_field([task], "pretext_loss", loss)
    write(studio, project, ids, "before", score=0.0)
    studio.project(project).predictions.write([Prediction(ids[3], 0.7, "now"), Prediction(ids[1], 0.9, "now")])
    studio.project(project).update(model_version="now")
    tab = studio.project(project).ensure_tab("PT4AL queue")
    shown = person.call("GET", "/api/tasks/", project=project, view=tab)["tasks"]
    assert [task["id"] for task in shown[:2]] == [ids[3], ids[1]]
    person.annotate(ids[3], RESULT)
    todo = person.call("GET", "/api/tasks/", project=project, view=tab)["tasks"]
    assert (todo[0]["id"], len(todo)) == (ids[1], 4)  # what is answered is no queue any more
    (data,) = [view["data"] for view in person.call("GET", "/api/dm/views/", project=project) if view["id"] == tab]
    assert data["filters"]["items"][0]["filter"] == "filter:tasks:completed_at"
    sorted_by_loss = {**data, "ordering": ["tasks:data.pretext_loss"]}
    person.call("PATCH", f"/api/dm/views/{tab}/", {"project": project, "data": sorted_by_loss})
    studio.project(project).ensure_tab("PT4AL queue")  # leaves a person's order alone
    shown = person.call("GET", "/api/tasks/", project=project, view=tab)["tasks"]
    assert [task["data"]["pretext_loss"] for task in shown] == sorted(set(losses) - {100.0})


def test_labels_streams_serve_the_queue_from_our_tab_and_from_the_default_one(studio, person, project, make_tasks):
    ids = make_tasks(4)
    studio.project(project).predictions.write([Prediction(ids[3], 0.1, "v1"), Prediction(ids[2], 0.2, "v1")])
    studio.project(project).update(sampling="Uncertainty sampling", model_version="v1")
    tab = studio.project(project).ensure_tab("PT4AL queue")
    (data,) = [view["data"] for view in person.call("GET", "/api/dm/views/", project=project) if view["id"] == tab]
    shown = {"ordering": data["ordering"], "filters": data["filters"]}

    def served(body):  # what the Data Manager's button sends
        raw = person.call(
            "POST", "/api/dm/actions/", {"project": str(project), **body}, id="next_task", project=project
        )
        return raw["id"], raw["queue"]

    assert served(shown) == (ids[3], "Data manager queue")  # "Label Tasks As Displayed"
    person.annotate(ids[3], RESULT)
    assert served({}) == (ids[2], "Active learning or random queue")  # "Label All Tasks", in any tab


def test_ensure_tab_makes_columns_numbers_again(studio: LabelStudio, person, project, make_tasks):
    make_tasks(1)
    data = {"title": "PT4AL queue", "columnsDisplayType": {"tasks:data.note": "String"}, "gridWidth": 3}
    person.call("POST", "/api/dm/views/", {"project": project, "data": data})
    studio.project(project).ensure_tab("PT4AL queue")
    (view,) = person.call("GET", "/api/dm/views/", project=project)
    assert view["data"]["columnsDisplayType"]["tasks:data.pretext_loss"] == "Number"
    assert view["data"]["columnsDisplayType"]["tasks:data.note"] == "String"
    assert view["data"]["gridWidth"] == 3


# The annotator


def test_annotators_are_served_by_score_each_a_task_of_their_own(studio: LabelStudio, person, project, make_tasks):
    ids = make_tasks(4)
    scores = {ids[0]: 0.4, ids[1]: 0.1, ids[2]: 0.3}
    studio.project(project).predictions.write([Prediction(task, score, "v1", RESULT) for task, score in scores.items()])
    studio.project(project).update(sampling="Uncertainty sampling", model_version="v1")
    second = Annotator(person.server, f"second-{project}@example.com", "label-studio-1", sign_up=True)
    mine, theirs = person.next_task(project), second.next_task(project)
    assert (mine.id, theirs.id) == (ids[1], ids[2])
    assert mine.predictions[0]["model_version"] == "v1"
    person.annotate(mine.id, RESULT)
    second.skip(theirs.id)
    assert person.next_task(project).id == theirs.id  # what one skips is put before the others
    assert second.next_task(project).id == ids[0]


def test_next_task_is_none_when_nothing_is_left(person: Annotator, project, make_tasks):
    (only,) = make_tasks(1)
    person.annotate(person.next_task(project).id, RESULT)
    assert person.next_task(project) is None
    assert only
