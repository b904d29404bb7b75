"""A Label Studio in this process: what its API answers, as far as the loop rests on it.

The gateway (``backend.studio``) and the demo's ``Annotator`` run on it unchanged; only what carries their requests is
replaced. tests/studio/test_contract.py runs the same cases on this one and on a real server.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import count
from random import Random
from typing import Any

from support.fake_label_stream import next_task
from support.fake_studio_state import (
    SEQUENTIAL,
    UNCERTAINTY,
    UNIFORM,
    Annotation,
    Clock,
    Project,
    StoredPrediction,
    Task,
    fits,
)
from support.people import Person

from backend.errors import ImageError, StudioError, StudioMissing
from backend.studio.project import StudioProject
from backend.studio.types import format_time, parse_time

SAMPLINGS = (SEQUENTIAL, UNIFORM, UNCERTAINTY)
COLUMNS = [{"id": name, "visibility_defaults": {"explore": True, "labeling": False}} for name in ("id", "created_at")]
_addresses = count(1)


class FakeLabelStudio:
    """One server: its projects, the files that it serves, its clock, and who talks to it.

    ``before`` and ``after`` are called with each request of the backend, such as ``"DELETE /api/predictions/7/"``, and
    may act as a person meanwhile, or raise as a server that is down. ``requests`` lists them.
    """

    def __init__(self, seed: int = 0) -> None:
        self.url = f"http://label-studio-{next(_addresses)}.test"
        self.clock = Clock()
        self.random = Random(seed)
        self.projects: dict[int, Project] = {}
        self.files: dict[str, bytes | Exception] = {}
        self.requests: list[str] = []
        self.before: Callable[[str], None] = lambda request: None
        self.after: Callable[[str], None] = lambda request: None
        self.session = FakeSession(self)
        self.ids = count(1)

    def project(self, studio_project_id: int) -> "FakeProject":
        """Return the handle of a project, as ``LabelStudio.project`` does."""
        return FakeProject(self, studio_project_id)

    def person(self, name: str = "first") -> Person:
        """Return a person who is signed in."""
        return FakePerson(self, name)

    def answer(self, user: str, method: str, path: str, params: Mapping[str, Any], body: Any) -> Any:
        """Answer one request of the API; raises what the gateway makes of a refusal."""
        for verbs, pattern, route in ROUTES:
            found = re.fullmatch(pattern, path.rstrip("/"))
            if found and method in verbs.split():
                number = int(found[1]) if found.groups() else 0
                return route(Request(self, user, method, dict(params), body, number))
        raise StudioMissing(f"the fake Label Studio has no {method} {path}")

    def task(self, task_id: int) -> tuple[Project, Task]:
        """Find a task among all projects."""
        for project in self.projects.values():
            if task_id in project.tasks:
                return project, project.tasks[task_id]
        raise StudioMissing(f"Label Studio has no /api/tasks/{task_id}/ (No Task matches the given query.)")

    def item(self, kind: str, number: int) -> tuple[Project, dict[int, Any]]:
        """Find what holds a backend, webhook or view among all projects."""
        for project in self.projects.values():
            if number in getattr(project, kind):
                return project, getattr(project, kind)
        raise StudioMissing(f"Label Studio has no {kind} {number}")


class FakeSession:
    """Takes the backend's requests to the fake in the place of ``StudioSession``."""

    def __init__(self, server: FakeLabelStudio) -> None:
        self._server = server
        self.base = server.url
        self.answered_bytes = 0

    def get(self, path: str, **params: Any) -> Any:
        """GET JSON."""
        return self.call("GET", path, params=params)

    def call(self, method: str, path: str, *, params: Any = None, body: Any = None, **_: Any) -> Any:
        """Answer as a server does: what is given and taken is JSON."""
        self._server.requests.append(f"{method} {path}")
        self._server.before(f"{method} {path}")
        given = json.loads(json.dumps(body, allow_nan=False))
        answer = self._server.answer("backend", method, path, params or {}, given)
        self._server.after(f"{method} {path}")
        text = json.dumps(answer)
        self.answered_bytes = len(text)
        return json.loads(text)

    def server_time(self, local: float) -> datetime:
        """Return the time of the server's clock."""
        return self._server.clock.now


class FakeProject(StudioProject):
    """The real handle of a project on the fake's requests; files are those of the fake."""

    def __init__(self, server: FakeLabelStudio, studio_project_id: int) -> None:
        super().__init__(server.session, studio_project_id)  # type: ignore[arg-type]
        self._server = server

    def fetch(self, reference: str, task_id: int) -> bytes:
        """Return a file of the fake, or raise what stands in its place."""
        self._server.before(f"GET {reference}")
        file = self._server.files.get(reference, ImageError("Label Studio answered 404 Not Found"))
        if isinstance(file, Exception):
            raise file
        return file


class FakePerson(Person):
    """A person at the fake."""

    def __init__(self, server: FakeLabelStudio, name: str) -> None:
        self.server, self.email, self._fake = server.url, f"{name}@example.com", server

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """Call the API as the page in the browser does."""
        answer = self._fake.answer(self.email, method, path, params, json.loads(json.dumps(body)))
        return json.loads(json.dumps(answer))


class Request:
    """One request, with the numbers in its path."""

    def __init__(
        self,
        server: FakeLabelStudio,
        user: str,
        method: str,
        params: dict[str, Any],
        body: Any,
        number: int,
    ) -> None:
        self.server, self.user, self.method, self.params, self.body = server, user, method, params, body
        self.number = number  # 0 where the path has none

    @property
    def project(self) -> Project:
        """The project in the path, else in the query or the body."""
        number = self.number or int(self.params.get("project") or (self.body or {}).get("project") or 0)
        if number not in self.server.projects:
            raise StudioMissing(f"Label Studio has no /api/projects/{number}/ (No Project matches the given query.)")
        return self.server.projects[number]


# Projects


def create_project(request: Request) -> Any:
    """Create a project."""
    number = next(request.server.ids)
    made = Project(number, request.body["title"], request.body["label_config"], request.server.clock.stamp())
    request.server.projects[number] = made
    return {"id": number}


def one_project(request: Request) -> Any:
    """Read, change or delete a project. A version is taken once a prediction or a model has it."""
    project = request.project
    if request.method == "DELETE":
        del request.server.projects[project.id]
        return None
    if request.method == "PATCH":
        version = request.body.get("model_version")
        if version not in ("", None, project.model_version) and version not in {*project.versions(), *project.titles()}:
            raise StudioError("Model version doesn't exist either as live model or as static predictions.")
        if request.body.get("sampling", SEQUENTIAL) not in SAMPLINGS:
            raise StudioError(f'"{request.body["sampling"]}" is not a valid choice.')
        for name, value in request.body.items():
            setattr(project, name, value)
    return {
        "id": project.id,
        "title": project.title,
        "created_at": format_time(project.created_at),
        "label_config": project.label_config,
        "sampling": project.sampling,
        "model_version": project.model_version,
        "task_number": len(project.tasks),
    }


def import_tasks(request: Request) -> Any:
    """Import tasks, with their annotations if they have any."""
    stamp = request.server.clock.stamp()
    for given in request.body:
        task = Task(next(request.server.ids), given.get("data", given), stamp)
        for answer in given.get("annotations", ()):
            task.annotations.append(Annotation(next(request.server.ids), request.user, answer["result"]))
        request.project.tasks[task.id] = task
    return {"task_count": len(request.body)}


def serve_next(request: Request) -> Any:
    """Serve the label stream."""
    task = next_task(request.project, request.user, request.server.clock.now, request.server.random)
    if task is None:
        raise StudioMissing(
            "there are still some tasks to complete for the user, but they seem to be locked by another user."
        )
    return _task_json(task)


# Tasks and answers


def list_tasks(request: Request) -> Any:
    """List tasks as the Data Manager does: filters, an order, a selection, and the first page."""
    query = json.loads(request.params.get("query", "{}"))
    tasks = list(_selected(request.project, query.get("selectedItems")))
    for condition in query.get("filters", {}).get("items", ()):
        tasks = [task for task in tasks for _ in range(_matches(task, condition))]
    name = query.get("ordering", ["tasks:id"])[0].removeprefix("tasks:")
    tasks.sort(key=lambda task: (getattr(task, name), task.id))
    page = tasks[: int(request.params.get("page_size", 100))]
    return {"tasks": [_task_json(task) for task in page], "total": len(tasks)}


def _selected(project: Project, selection: Mapping[str, Any] | None) -> Iterable[Task]:
    """Pick tasks by id; an empty selection is every task."""
    included = (selection or {}).get("included")
    return [task for task in project.tasks.values() if not included or task.id in included]


def _matches(task: Task, condition: Mapping[str, Any]) -> bool:
    column, operator, value = (
        condition["filter"].removeprefix("filter:tasks:"),
        condition["operator"],
        condition["value"],
    )
    if column == "predictions_model_versions":
        return any(value[0] in prediction.model_version for prediction in task.predictions)
    given: Any = getattr(task, column)
    wanted = parse_time(value) if column == "updated_at" else value
    return bool({"equal": given == wanted, "greater": given > wanted, "greater_or_equal": given >= wanted}[operator])


def _task_json(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "data": task.data,
        "updated_at": format_time(task.updated_at),
        "annotations": [
            {
                "id": one.id,
                "result": one.result,
                "was_cancelled": one.was_cancelled,
                "completed_by": one.user,
                "lead_time": one.lead_time,
                "parent_prediction": _kept(task, one.parent_prediction),
            }
            for one in task.annotations
        ],
        "predictions": [
            {
                "id": one.id,
                "task": task.id,
                "score": one.score,
                "model_version": one.model_version,
                "result": one.result,
            }
            for one in task.predictions
        ],
        "queue": "",
    }


def _kept(task: Task, prediction: int | None) -> int | None:
    """Return the id of a prediction that is still there: an annotation outlives it and forgets it."""
    return prediction if any(one.id == prediction for one in task.predictions) else None


def one_task(request: Request) -> Any:
    """Read, change or delete a task; ``data`` is replaced as a whole."""
    project, task = request.server.task(request.number)
    if request.method == "DELETE":
        del project.tasks[task.id]
        return None
    if request.method == "PATCH":
        task.data, task.updated_at = request.body["data"], request.server.clock.stamp()
    return _task_json(task)


def annotate(request: Request) -> Any:
    """Take an answer or a skip, and the user's lock off the task."""
    _, task = request.server.task(request.number)
    made = Annotation(
        next(request.server.ids),
        request.user,
        request.body["result"],
        request.body.get("was_cancelled", False),
        request.body.get("lead_time"),
        request.body.get("parent_prediction"),
    )
    task.annotations.append(made)
    task.locks.pop(request.user, None)
    task.updated_at = request.server.clock.stamp()
    return {"id": made.id}


def one_annotation(request: Request) -> Any:
    """Change or delete an answer."""
    for project in request.server.projects.values():
        for task in project.tasks.values():
            for annotation in task.annotations:
                if annotation.id == request.number:
                    task.updated_at = request.server.clock.stamp()
                    if request.method == "DELETE":
                        task.annotations.remove(annotation)
                    for name, value in (request.body or {}).items():
                        setattr(annotation, name, value)
                    return None
    raise StudioMissing(f"Label Studio has no /api/annotations/{request.number}/")


def act(request: Request) -> Any:
    """Run a Data Manager action. Those on answers move the tasks' ``updated_at``, all to one moment."""
    name, tasks = request.params["id"], list(_selected(request.project, request.body["selectedItems"]))
    stamp = request.server.clock.stamp()
    for task in tasks:
        if name == "add_data_field":
            task.data = {**task.data, request.body["value_name"]: json.loads(request.body["value"])}
        elif name == "delete_tasks_predictions":
            task.predictions.clear()
        elif name == "delete_tasks_annotations":
            task.annotations.clear()
            task.updated_at = stamp
        elif name == "predictions_to_annotations":
            for one in task.predictions:
                if one.model_version == request.body["model_version"]:
                    made = Annotation(next(request.server.ids), request.user, one.result, parent_prediction=one.id)
                    task.annotations.append(made)
                    task.updated_at = stamp
        elif name == "delete_tasks":
            del request.project.tasks[task.id]
        else:
            raise StudioError(f"the fake Label Studio has no action {name}")
    return {"processed_items": len(tasks)}


# Predictions


def import_predictions(request: Request) -> Any:
    """Store predictions: none where a task is missing; without those whose labels the configuration does not have."""
    project = request.project
    if missing := [given["task"] for given in request.body if given["task"] not in project.tasks]:
        raise StudioError(f'contains invalid "task" field: task ID {missing[0]} not found in project {project.id}')
    kept = [given for given in request.body if fits(given["result"], project.label_config)]
    for given in kept:
        made = StoredPrediction(next(request.server.ids), given["model_version"], given["score"], given["result"])
        project.tasks[given["task"]].predictions.append(made)
    return {"created": len(kept)}


def model_versions(request: Request) -> Any:
    """Count the predictions of each version, or delete those of one, which takes it off the project as well."""
    project = request.project
    if request.method == "GET":
        served = {project.model_version: 0} if project.model_version else {}
        return {**served, **project.versions()}
    version = request.body["model_version"]
    for task in project.tasks.values():
        task.predictions = [one for one in task.predictions if one.model_version != version]
    if project.model_version == version or project.model_version in project.titles():
        project.model_version = None
    return None


def delete_prediction(request: Request) -> Any:
    """Delete one prediction, which moves its task's ``updated_at``."""
    for project in request.server.projects.values():
        for task in project.tasks.values():
            for prediction in task.predictions:
                if prediction.id == request.number:
                    task.predictions.remove(prediction)
                    task.updated_at = request.server.clock.stamp()
                    return None
    raise StudioMissing(f"Label Studio has no /api/predictions/{request.number}/")


# What is connected


def backends(request: Request) -> Any:
    """List the models, or connect one: it becomes the project's version, and gets a webhook."""
    project = request.project
    if request.method == "GET":
        return list(project.backends.values())
    number = next(request.server.ids)
    plain = {"description": "", "extra_params": None, "auth_method": "NONE", "basic_auth_user": "", "state": "CO"}
    project.backends[number] = {**plain, "model_version": "v0", **request.body, "id": number}
    project.model_version = request.body["title"]
    _add_webhook(request.server, project, {"url": f"{request.body['url'].rstrip('/')}/webhook"})
    return project.backends[number]


def one_backend(request: Request) -> Any:
    """Change a model's entry, or disconnect it."""
    project, entries = request.server.item("backends", request.number)
    if request.method == "PATCH":
        entries[request.number].update(request.body)
        return entries[request.number]
    if entries.pop(request.number)["title"] == project.model_version:
        project.model_version = ""
    return None


def webhooks(request: Request) -> Any:
    """List or add webhooks."""
    if request.method == "GET":
        return list(request.project.webhooks.values())
    return _add_webhook(request.server, request.project, request.body)


def _add_webhook(server: FakeLabelStudio, project: Project, given: Mapping[str, Any]) -> Any:
    plain = {"is_active": True, "send_payload": True, "send_for_all_actions": True, "headers": {}}
    number = next(server.ids)
    project.webhooks[number] = {**plain, **given, "id": number}
    return project.webhooks[number]


def one_webhook(request: Request) -> Any:
    """Change or delete a webhook."""
    _, hooks = request.server.item("webhooks", request.number)
    if request.method == "DELETE":
        del hooks[request.number]
        return None
    hooks[request.number].update(request.body)
    return hooks[request.number]


def views(request: Request) -> Any:
    """List or add Data Manager tabs."""
    project = request.project
    if request.method == "GET":
        return list(project.views.values())
    number = next(request.server.ids)
    project.views[number] = {"id": number, "data": request.body["data"]}
    return project.views[number]


def one_view(request: Request) -> Any:
    """Change a tab."""
    _, tabs = request.server.item("views", request.number)
    tabs[request.number]["data"] = request.body["data"]
    return tabs[request.number]


def columns(request: Request) -> Any:
    """List the Data Manager's columns."""
    return {"columns": COLUMNS}


ROUTES: tuple[tuple[str, str, Callable[[Request], Any]], ...] = (
    ("POST", r"/api/projects", create_project),
    ("GET PATCH DELETE", r"/api/projects/(\d+)", one_project),
    ("POST", r"/api/projects/(\d+)/import", import_tasks),
    ("GET", r"/api/projects/(\d+)/next", serve_next),
    ("POST", r"/api/projects/(\d+)/import/predictions", import_predictions),
    ("GET DELETE", r"/api/projects/(\d+)/model-versions", model_versions),
    ("DELETE", r"/api/predictions/(\d+)", delete_prediction),
    ("GET", r"/api/tasks", list_tasks),
    ("GET PATCH DELETE", r"/api/tasks/(\d+)", one_task),
    ("POST", r"/api/tasks/(\d+)/annotations", annotate),
    ("PATCH DELETE", r"/api/annotations/(\d+)", one_annotation),
    ("POST", r"/api/dm/actions", act),
    ("GET POST", r"/api/ml", backends),
    ("PATCH DELETE", r"/api/ml/(\d+)", one_backend),
    ("GET POST", r"/api/webhooks", webhooks),
    ("PATCH DELETE", r"/api/webhooks/(\d+)", one_webhook),
    ("GET POST", r"/api/dm/views", views),
    ("PATCH", r"/api/dm/views/(\d+)", one_view),
    ("GET", r"/api/dm/columns", columns),
)
