"""The routes of the pages."""

import logging
import time
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, HTTPException, NotFound

from backend.errors import QueueUnavailable
from backend.loop.evidence import hardness_by_round
from backend.loop.facts import JobKind
from backend.store import ProjectRow
from backend.web.dashboard import assets, guard, words
from backend.web.dashboard.figures import FIGURES
from backend.web.dashboard.figures.balance import class_table
from backend.web.dashboard.figures.confusion import worst
from backend.web.dashboard.findings import findings
from backend.web.dashboard.view import ProjectView
from backend.web.services import services

logger = logging.getLogger(__name__)

blueprint = Blueprint(
    "dashboard", __name__, static_folder="static", static_url_path="/dashboard/static", template_folder="templates"
)
blueprint.add_app_template_filter(words.percent, "percent")

QUEUE_SHOWN, QUEUE_ALL = 48, 2000  # thumbnails
BROKEN_SHOWN = 200
FOREVER_S = 365 * 24 * 3600


@blueprint.after_request
def protect(response: Response) -> Response:
    """Say what browsers may do with an answer."""
    for name, value in guard.HEADERS.items():
        response.headers[name] = value
    return response


# A refused password is not among these: the application's own answer asks for one.
@blueprint.errorhandler(NotFound)
@blueprint.errorhandler(Forbidden)
def _error(error: HTTPException) -> ResponseReturnValue:
    code = error.code or 500
    if not is_browser():
        return jsonify({"error": error.description}), code
    return render_template("dashboard/error.html", code=code, message=error.description), code


@blueprint.get("/projects")
def index() -> ResponseReturnValue:
    """List the projects."""
    store = services().store
    # A project that was deleted and made anew under the same id has left an old row, which nobody can open.
    newest = [row for row in store.projects.all() if _is_newest(row)]
    return _page("dashboard/index.html", views=[ProjectView(services(), row) for row in newest], words=words)


@blueprint.get("/projects/<int:studio_id>")
def project(studio_id: int) -> ResponseReturnValue:
    """Show a project, by Label Studio's id."""
    view = ProjectView(services(), _find(studio_id))
    status, kinds = view.status, {"syncing": JobKind.SYNC, "training": JobKind.RETRAIN, "recording": JobKind.RECORD}
    job = status.running.get(kinds.get(status.stage, status.stage))
    show_all = request.args.get("queue") == "all"
    return _page(
        "dashboard/project.html",
        view=view,
        data=view.data,
        figures=FIGURES,
        stage=words.stage_title(status),
        error=words.what_is_wrong(status),
        happens=words.what_happens(status),
        time_left=words.time_left(job, time.time()),
        findings=findings(view),
        hardness=hardness_by_round(view.asked_in_full),
        classes=class_table(view.asked),
        confusions=worst(view.holdout) if view.holdout else [],
        queue=view.queue(QUEUE_ALL if show_all else QUEUE_SHOWN),
        show_all=show_all,
        broken=view.here.store.tasks.broken(view.project.id, BROKEN_SHOWN),
    )


@blueprint.get("/projects/<int:studio_id>/figures/<name>.json")
def figure(studio_id: int, name: str) -> ResponseReturnValue:
    """Give a figure as Plotly's JSON, or a sentence on what it waits for."""
    if name not in FIGURES:
        raise NotFound(f"there is no figure '{name}': choose from {', '.join(FIGURES)}")
    drawn = FIGURES[name].draw(ProjectView(services(), _find(studio_id)))
    return _fresh(jsonify({"waiting": drawn} if isinstance(drawn, str) else drawn))


@blueprint.get("/projects/<int:studio_id>/images/<int:pool_index>.png")
def image(studio_id: int, pool_index: int) -> ResponseReturnValue:
    """Give an image of the pool as the model sees it; ``?small`` gives a thumbnail.

    An index of a bank always means the same image, so that an address that names the bank may be kept for ever.
    """
    view = ProjectView(services(), _find(studio_id))
    bank = view.bank()
    if bank is None or pool_index >= len(bank):
        raise NotFound(f"project {studio_id} has no image {pool_index}")
    response = Response(assets.png(bank, pool_index, small="small" in request.args), mimetype="image/png")
    if request.args.get("bank") == bank_name(view.project):
        response.cache_control.max_age, response.cache_control.immutable = FOREVER_S, True
    response.cache_control.private = True
    return response


@blueprint.post("/projects/<int:studio_id>/retry")
def retry(studio_id: int) -> ResponseReturnValue:
    """Try failed work and quarantined images again now, and show the page."""
    guard.check_same_origin()
    found, here = _find(studio_id), services()
    here.store.jobs.retry_now(found.id)
    here.store.tasks.retry_broken(found.id)
    try:
        here.queueing.hint(found.id)
    except QueueUnavailable as error:
        logger.warning("%s; the timer will advance project %s", error, studio_id)
    return redirect(url_for("dashboard.project", studio_id=studio_id), 303)


@blueprint.get("/dashboard/plotly-<version>.js")
def plotly(version: str) -> ResponseReturnValue:
    """Give Plotly's script; its address changes with its version, so that it may be kept for ever."""
    script = assets.plotly()
    if script is None or script.version != version:
        raise NotFound("this version of Plotly is not installed")
    response = Response(script.compressed, mimetype="text/javascript")
    response.content_encoding = "gzip"
    response.cache_control.max_age, response.cache_control.immutable = FOREVER_S, True
    response.cache_control.public = True
    return response


def is_browser() -> bool:
    """Tell whether the caller prefers a page to JSON."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def bank_name(row: ProjectRow) -> str:
    """Name the image bank that a project's pool indices belong to."""
    return f"{row.id}-{row.image_side}"


def _page(template: str, **context: Any) -> ResponseReturnValue:
    page = render_template(
        template, plotly=assets.plotly_version(), static_version=_static_version(), bank_name=bank_name, **context
    )
    return _fresh(Response(page, mimetype="text/html"))


def _fresh(response: Response) -> Response:
    """Have the browser ask each time, and answer 304 while nothing has changed."""
    response.add_etag()
    response.cache_control.no_cache = True
    response.cache_control.private = True
    response.vary.add("Accept")
    response.make_conditional(request)
    return response


def _find(studio_id: int) -> ProjectRow:
    found = services().store.projects.find(studio_id)
    if found is None:
        raise NotFound(f"Project {studio_id} is not connected: add this backend in its settings under Model.")
    return found


def _is_newest(row: ProjectRow) -> bool:
    newest = services().store.projects.find(row.studio_id)
    return newest is not None and newest.id == row.id


def _static_version() -> str:
    folder = Path(__file__).parent / "static"
    return format(max(path.stat().st_mtime_ns for path in folder.iterdir()), "x")
