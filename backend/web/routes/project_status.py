"""Status of the projects as JSON, and the request to try again."""

import re

from flask import Blueprint, Flask, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, Conflict, NotFound
from werkzeug.routing import BaseConverter

from backend.status.status import read_status
from backend.status.summary import as_json, read_error_rates
from backend.store import ProjectRow
from backend.web.services import services

blueprint = Blueprint("pt4al", __name__)

NAME = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})?")


class ProjectName(BaseConverter):
    """The name of a project in addresses: Label Studio's id, or that and ours where several servers have that id."""

    regex = NAME.pattern


def register_names(app: Flask) -> None:
    """Let routes of ``app`` name projects (``<project:project_name>``)."""
    app.url_map.converters["project"] = ProjectName


@blueprint.get("/api/projects")
def projects() -> ResponseReturnValue:
    """List the projects that are, or were, connected."""
    store = services().store
    return jsonify([as_json(read_status(store, project)) for project in store.projects.all()])


@blueprint.get("/api/projects/<project:project_name>")
def project(project_name: str) -> ResponseReturnValue:
    """Return a project's status, by its name: Label Studio's id, where one server has it."""
    store = services().store
    status = read_status(store, find_project(project_name))
    return jsonify(as_json(status, read_error_rates(store, status)))


@blueprint.get("/api/projects/<project:project_name>/broken")
def broken(project_name: str) -> ResponseReturnValue:
    """List the quarantined images with their reasons."""
    rows = services().store.of(find_project(project_name).id).tasks.broken()
    return jsonify([{"task": task_id, "reason": reason} for task_id, reason in rows])


@blueprint.post("/api/projects/<project:project_name>/advance")
def advance(project_name: str) -> ResponseReturnValue:
    """Try failed jobs and quarantined images again now."""
    current, row = services(), find_project(project_name)
    current.retry_now(row)
    return jsonify(as_json(read_status(current.store, row))), 202


@blueprint.post("/api/projects/<project:project_name>/history")
def history(project_name: str) -> ResponseReturnValue:
    """Say where the history of a project belongs that several servers have.

    ``{"from": "<name>"}`` has the history of another row come here, ``{"from": null}`` begins with the own one.
    """
    row, body = find_project(project_name), request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("from", 0), str | None):
        raise BadRequest('write JSON such as {"from": "1-2"}, or {"from": null} to go on without the other history')
    place_history(row, body["from"])
    return jsonify(as_json(read_status(services().store, find_project(f"{row.studio_project_id}-{row.id}")))), 202


def place_history(row: ProjectRow, other: str | None) -> None:
    """Note what a person has said: the history of the project called ``other`` belongs to ``row``; None: its own does.

    Raises:
        Conflict: the project rests, or the other one is not the same project.
    """
    current = services()
    if not row.active:
        raise Conflict("the project rests: open its Model page in Label Studio first")
    if other is not None and not NAME.fullmatch(other):
        raise BadRequest(f"'{other[:40]}' is not the name of a project")
    source = find_project(other) if other is not None else None
    if source is not None and source.id not in {one.id for one in current.store.projects.siblings(row)}:
        raise Conflict(f"project {other} is not the same project on another server")
    current.store.projects.ask(row.id, source.id if source is not None else None)
    current.wake(row)


def find_project(project_name: str) -> ProjectRow:
    """Return the project of this name.

    Raises:
        NotFound: it was never connected.
    """
    row = services().store.projects.named(project_name)
    if row is None:
        raise NotFound(f"project {project_name} is not connected: add this backend in its settings under Model")
    return row
