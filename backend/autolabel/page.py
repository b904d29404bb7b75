"""The page on which the rest is labeled: what a confidence would give, and the button that writes it."""

from collections.abc import Mapping

from flask import Blueprint, Response, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, Conflict

from backend.autolabel import routes
from backend.autolabel.preview import autolabel_version, preview
from backend.dashboard.pages import prepare, render
from backend.dashboard.project_page import ProjectPage
from backend.dashboard.text import percent_of
from backend.store import ProjectRow
from backend.web.cache import newest_predictions
from backend.web.routes.project_status import find_project
from backend.web.security import csrf
from backend.web.services import services

blueprint = Blueprint("autolabel_page", __name__, template_folder="templates")
prepare(blueprint)

STEPS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)  # confidences that are compared
DIGITS = 9  # of a round's number


@blueprint.get("/projects/<project:project_name>/final")
def show(project_name: str) -> ResponseReturnValue:
    """Show what would be written above ``?percent=``, or ``?confidence=`` as the API has it."""
    project = find_project(project_name)
    try:
        confidence, wrong = _read(request.args), None
    except BadRequest as error:
        confidence, wrong = routes.DEFAULT, error.description
    return _page(project, confidence, wrong)


@blueprint.post("/projects/<project:project_name>/final")
def write(project_name: str) -> ResponseReturnValue:
    """Order what was shown, and show how far it has come."""
    csrf.check_same_origin("POST /api/projects/<id>/final")
    project, confidence = find_project(project_name), routes.DEFAULT
    number = request.form.get("round", "")
    known = number.isdecimal() and len(number) <= DIGITS
    try:
        confidence = _read(request.form)
        routes.order(project, newest_predictions(project), confidence, int(number) if known else None)
    except (BadRequest, Conflict) as error:
        return _page(project, confidence, error.description, error.code)
    return redirect(url_for("autolabel_page.show", project_name=project_name, percent=percent_of(confidence)), 303)


def _page(project: ProjectRow, confidence: float, wrong: str | None, code: int | None = None) -> Response:
    """Show the form: with a sentence on what was ``wrong`` with the input, if anything."""
    page = ProjectPage(services(), project)
    predictions = newest_predictions(page.project)
    # The object is the version of what is compared: predictions of another version are another object.
    steps = page.keep("autolabel steps", predictions, lambda: [preview(predictions, share) for share in STEPS])
    shown = next((step for step in steps if step.confidence == confidence), None) or preview(predictions, confidence)
    version, order = autolabel_version(predictions.row.number), routes.last_order(page.project)
    ordered = order is not None and (order["model_version"], order["confidence"]) == (version, shown.confidence)
    return render(
        "dashboard/autolabel.html",
        page=page,
        data=page.data,
        predictions=predictions,
        version=version,
        shown=shown,
        metric=page.status.metric,
        steps=steps,
        order=order,
        ordered=ordered,
        wrong=wrong,
        code=200 if wrong is None else code or 400,
    )


def _read(given: Mapping[str, str]) -> float:
    """Return the confidence of a form, 0 to 1, where people write percent.

    Raises:
        BadRequest: it is none; with a sentence for people.
    """
    if "percent" not in given:
        return routes.read_confidence(given.get("confidence", routes.DEFAULT))
    try:
        return routes.read_confidence(float(given["percent"].replace("%", "").replace(",", ".")) / 100)
    except (ValueError, BadRequest):
        raise BadRequest("Write how sure the model has to be in percent, from 0 to 100, such as 90.") from None
