"""Labeling the rest over HTTP: what it would write, and the order to write it."""

import math
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, Conflict, NotFound

from backend.autolabel.preview import Prospect, Rest, autolabel_version, open_rest, rest_version
from backend.loop.facts import JobKind
from backend.store import AutolabelOrderRow, ProjectRow
from backend.web.cache import cache_of
from backend.web.routes.project_status import find_project
from backend.web.services import services

blueprint = Blueprint("final", __name__)

DEFAULT = 0.9  # confidence


@blueprint.get("/api/projects/<int:studio_project_id>/final")
def preview(studio_project_id: int) -> ResponseReturnValue:
    """Say what would be written above ``?confidence=``."""
    project = find_project(studio_project_id)
    rest = rest_of(project)
    return jsonify(_as_json(project, rest, rest.prospect(read_confidence(request.args.get("confidence", DEFAULT)))))


@blueprint.post("/api/projects/<int:studio_project_id>/final")
def write(studio_project_id: int) -> ResponseReturnValue:
    """Order the predictions: ``{"confidence": 0.9}``, and ``"round"`` to be sure whose they are."""
    project = find_project(studio_project_id)
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or "confidence" not in body:
        raise BadRequest('write JSON such as {"confidence": 0.9}')
    rest = rest_of(project)
    found = order(project, rest, read_confidence(body["confidence"]), body.get("round", rest.row.number))
    return jsonify(_as_json(project, rest, found)), 202


def order(project: ProjectRow, rest: Rest, confidence: float, number: object) -> Prospect:
    """Order what the model of round ``number`` says above ``confidence``.

    Raises:
        Conflict: a newer model has taken its place since it was looked at, or the project is disconnected.
    """
    if number != rest.row.number:
        raise Conflict("a newer model has been trained meanwhile: look at its numbers first")
    if not project.active:
        raise Conflict("the project is disconnected: connect this backend again in Label Studio")
    here = services()
    found = rest.prospect(confidence)
    here.store.of(project.id).autolabel.order(
        number=rest.row.number,
        confidence=confidence,
        temperature=rest.temperature.value,
        images=found.images,
        errors=found.errors.expected,
    )
    here.store.of(project.id).jobs.retry_now()
    here.wake(project)
    return found


def rest_of(project: ProjectRow) -> Rest:
    """Give the newest model's predictions, kept while they stay true: a pool of a million takes seconds to open.

    Raises:
        NotFound: there is no model yet.
    """
    store, data_dir = services().store, services().settings.data_dir
    version = rest_version(store, data_dir, project)
    rest = cache_of(store).get((project.id, "rest"), version, lambda: open_rest(store, data_dir, project))
    if rest is None:
        raise NotFound("There is no model yet: it is trained after the first round of labels.")
    return rest


def read_confidence(value: object) -> float:
    """Read a confidence, 0 to 1.

    Raises:
        BadRequest: it is none.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):  # no number, or a whole one that no float holds
        number = math.nan
    if not 0 <= number <= 1:
        raise BadRequest("confidence: write a number from 0 to 1, such as 0.9")
    return number


def last_order(project: ProjectRow) -> dict[str, Any] | None:
    """Give the last order and how far it has come, or None."""
    here = services()
    row: AutolabelOrderRow | None = here.store.of(project.id).autolabel.get()
    if row is None:
        return None
    job = next((job for job in here.store.of(project.id).jobs.all() if job.kind == JobKind.FINAL), None)
    return {
        "model_version": autolabel_version(row.round),
        "confidence": row.confidence,
        "images": row.images,
        "expected_errors": round(row.errors, 1),
        "written": row.written_at is not None,
        "progress": 1.0 if row.written_at is not None else round(job.progress, 3) if job else 0.0,
    }


def _as_json(project: ProjectRow, rest: Rest, found: Prospect) -> dict[str, Any]:
    return {
        "round": rest.row.number,
        "model_version": autolabel_version(rest.row.number),
        "confidence": found.confidence,
        "temperature": round(rest.temperature.value, 3),
        "images": found.images,
        "left": found.left,
        "expected_errors": round(found.errors.expected, 1),
        "interval": [round(found.errors.low, 1), round(found.errors.high, 1)],
        "holdout": {"images": found.held, "wrong": found.held_wrong},
        "order": last_order(project),
    }
