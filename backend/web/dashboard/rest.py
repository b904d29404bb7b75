"""The page on which the rest is labeled: what a confidence would give, and the button that writes it."""

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue

from backend.loop.rest import final_version
from backend.web import final, guard
from backend.web.api import find_project
from backend.web.dashboard.pages import prepare, render
from backend.web.dashboard.view import ProjectView
from backend.web.services import services

blueprint = Blueprint("rest", __name__, template_folder="templates")
prepare(blueprint)

STEPS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)  # confidences that are compared
DIGITS = 9  # of a round's number


@blueprint.get("/projects/<int:studio_id>/final")
def preview(studio_id: int) -> ResponseReturnValue:
    """Show what would be written above ``?confidence=``."""
    view = ProjectView(services(), find_project(studio_id))
    rest = final.rest_of(view.project)
    # What is compared is true of this ``rest``: that of another version is another object.
    steps = view.keep("rest steps", rest, lambda: [rest.prospect(confidence) for confidence in STEPS])
    confidence = final.read_confidence(request.args.get("confidence", final.DEFAULT))
    found = next((step for step in steps if step.confidence == confidence), None)
    return render(
        "dashboard/final.html",
        view=view,
        data=view.data,
        rest=rest,
        version=final_version(rest.row.number),
        found=found or rest.prospect(confidence),
        steps=steps,
        order=final.last_order(view.project),
    )


@blueprint.post("/projects/<int:studio_id>/final")
def write(studio_id: int) -> ResponseReturnValue:
    """Order what was shown, and show how far it has come."""
    guard.check_same_origin("POST /api/projects/<id>/final")
    project = find_project(studio_id)
    confidence = final.read_confidence(request.form.get("confidence"))
    number = request.form.get("round", "")
    known = number.isdecimal() and len(number) <= DIGITS
    final.order(project, final.rest_of(project), confidence, int(number) if known else None)
    return redirect(url_for("rest.preview", studio_id=studio_id, confidence=request.form.get("confidence")), 303)
