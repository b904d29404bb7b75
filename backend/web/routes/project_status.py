"""Status of the projects as JSON, and the request to try again."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from backend.status.status import read_status
from backend.status.summary import as_json, read_error_rates
from backend.store import ProjectRow
from backend.web.services import services

blueprint = Blueprint("pt4al", __name__)


@blueprint.get("/api/projects")
def projects() -> ResponseReturnValue:
    """List the projects that are, or were, connected."""
    store = services().store
    return jsonify([as_json(read_status(store, project)) for project in store.projects.all()])


@blueprint.get("/api/projects/<int:studio_project_id>")
def project(studio_project_id: int) -> ResponseReturnValue:
    """Return a project's status, by Label Studio's id."""
    store = services().store
    status = read_status(store, find_project(studio_project_id))
    return jsonify(as_json(status, read_error_rates(store, status)))


@blueprint.get("/api/projects/<int:studio_project_id>/broken")
def broken(studio_project_id: int) -> ResponseReturnValue:
    """List the quarantined images with their reasons."""
    rows = services().store.of(find_project(studio_project_id).id).tasks.broken()
    return jsonify([{"task": task_id, "reason": reason} for task_id, reason in rows])


@blueprint.post("/api/projects/<int:studio_project_id>/advance")
def advance(studio_project_id: int) -> ResponseReturnValue:
    """Try failed jobs and quarantined images again now."""
    current, row = services(), find_project(studio_project_id)
    current.retry_now(row)
    return jsonify(as_json(read_status(current.store, row))), 202


def find_project(studio_project_id: int) -> ProjectRow:
    """Return the project with this id in Label Studio.

    Raises:
        NotFound: it was never connected.
    """
    row = services().store.projects.find(studio_project_id)
    if row is None:
        raise NotFound(f"project {studio_project_id} is not connected: add this backend in its settings under Model")
    return row
