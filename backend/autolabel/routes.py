"""Labeling the rest over HTTP: what it would write, and the order to write it."""

import math
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, Conflict

from backend.autolabel.preview import AutolabelPreview, autolabel_version, preview
from backend.loop.facts import JobKind
from backend.status.predictions import PoolPredictions
from backend.store import AutolabelOrderRow, ProjectRow
from backend.web.cache import newest_predictions
from backend.web.routes.project_status import find_project
from backend.web.services import services
from model.problems.base import Mistakes

blueprint = Blueprint("autolabel", __name__)

DEFAULT = 0.9  # confidence


@blueprint.get("/api/projects/<project:project_name>/final")
def show(project_name: str) -> ResponseReturnValue:
    """Return what would be written above ``?confidence=``."""
    project = find_project(project_name)
    predictions = newest_predictions(project)
    confidence = read_confidence(request.args.get("confidence", DEFAULT))
    return jsonify(_as_json(project, predictions, preview(predictions, confidence)))


@blueprint.post("/api/projects/<project:project_name>/final")
def write(project_name: str) -> ResponseReturnValue:
    """Order the predictions: ``{"confidence": 0.9}``, and ``"round"`` to be sure whose they are."""
    project = find_project(project_name)
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or "confidence" not in body:
        raise BadRequest('write JSON such as {"confidence": 0.9}')
    predictions = newest_predictions(project)
    ordered = order(
        project, predictions, read_confidence(body["confidence"]), body.get("round", predictions.row.number)
    )
    return jsonify(_as_json(project, predictions, ordered)), 202


def order(project: ProjectRow, predictions: PoolPredictions, confidence: float, number: object) -> AutolabelPreview:
    """Order what the model of round ``number`` says above ``confidence``.

    Raises:
        Conflict: a newer model has taken its place since it was looked at, or the project is disconnected.
    """
    if number != predictions.row.number:
        raise Conflict("a newer model has been trained meanwhile: look at its numbers first")
    if not project.active:
        raise Conflict("the project is disconnected: connect this backend again in Label Studio")
    store, ordered = services().store.of(project.id), preview(predictions, confidence)
    store.autolabel.order(
        number=predictions.row.number,
        confidence=confidence,
        temperature=predictions.temperature.value,
        images=ordered.images,
        errors=ordered.errors.expected,
    )
    store.jobs.retry_now()
    services().wake(project)
    return ordered


def read_confidence(value: object) -> float:
    """Return a confidence, 0 to 1.

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
    """Return the last order and how far it has come, or None."""
    store = services().store.of(project.id)
    row: AutolabelOrderRow | None = store.autolabel.get()
    if row is None:
        return None
    job = next((job for job in store.jobs.all() if job.kind == JobKind.AUTOLABEL), None)
    return {
        "model_version": autolabel_version(row.round),
        "confidence": row.confidence,
        "images": row.images,
        "expected_errors": round(row.errors, 1),
        "written": row.written_at is not None,
        "progress": 1.0 if row.written_at is not None else round(job.progress, 3) if job else 0.0,
    }


def _rounded(mistakes: Mistakes) -> dict[str, float]:
    return {"shown": mistakes.shown, "wrong": round(mistakes.wrong, 1), "missed": round(mistakes.missed, 1)}


def _as_json(project: ProjectRow, predictions: PoolPredictions, shown: AutolabelPreview) -> dict[str, Any]:
    return {
        "round": predictions.row.number,
        "model_version": autolabel_version(predictions.row.number),
        "confidence": shown.confidence,
        "temperature": round(predictions.temperature.value, 3),
        "images": shown.images,
        "left": shown.left,
        "expected_errors": round(shown.errors.expected, 1),
        "interval": [round(shown.errors.low, 1), round(shown.errors.high, 1)],
        **({"objects": _rounded(shown.mistakes)} if shown.mistakes is not None else {}),
        "holdout": {"images": shown.held, "wrong": shown.held_wrong},
        "order": last_order(project),
    }
