"""The routes of the pages."""

import time

import numpy as np
from flask import Blueprint, Response, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from backend.autolabel import routes
from backend.autolabel.page import STEPS
from backend.dashboard import assets, pictures, text
from backend.dashboard.figures import FIGURES, figure_rows
from backend.dashboard.figures.balance import asked_classes
from backend.dashboard.figures.classes import class_results, number
from backend.dashboard.figures.confusion import worst
from backend.dashboard.findings import findings
from backend.dashboard.overlays import masks
from backend.dashboard.pages import bank_name, fresh, prepare, render
from backend.dashboard.project_page import ProjectPage
from backend.dashboard.worst import worst_images
from backend.status.query_error_rate import error_rates_by_round
from backend.web.formats import formats_of
from backend.web.routes.downloads import exported_model
from backend.web.routes.project_status import find_project, place_history
from backend.web.security import csrf
from backend.web.services import services

blueprint = Blueprint(
    "dashboard", __name__, static_folder="static", static_url_path="/dashboard/static", template_folder="templates"
)
blueprint.add_app_template_filter(text.percent, "percent")
blueprint.add_app_template_filter(text.percent_of, "percent_of")
blueprint.add_app_template_filter(text.sentence, "sentence")
blueprint.add_app_template_filter(text.of_target, "of_target")
blueprint.add_app_template_filter(number, "rate")
prepare(blueprint)

QUEUE_PHONE, QUEUE_SHOWN, QUEUE_ALL = 12, 48, 2000  # thumbnails; the stylesheet knows the first
WORST_SHOWN, WORST_ALL = 8, 100  # images of the holdout
BROKEN_SHOWN = 200
FOREVER_S = 365 * 24 * 3600


@blueprint.get("/projects")
def index() -> ResponseReturnValue:
    """List the projects."""
    store = services().store
    projects = store.projects.all()
    # A project that was deleted and made anew under the same id has left an old row.
    newest = {(row.server, row.studio_project_id): row.id for row in projects}
    shown = [row for row in projects if row.active or newest[row.server, row.studio_project_id] == row.id]
    return render("dashboard/index.html", projects=[ProjectPage(services(), row) for row in shown], text=text)


@blueprint.get("/projects/<project:project_name>")
def project(project_name: str) -> ResponseReturnValue:
    """Show a project, by its name."""
    page = ProjectPage(services(), find_project(project_name))
    status, drawn = page.status, page.problem.figures
    show_all, show_worst = request.args.get("queue") == "all", request.args.get("worst") == "all"
    queue = page.queue(QUEUE_ALL if show_all else QUEUE_SHOWN)
    return render(
        "dashboard/project.html",
        page=page,
        data=page.data,
        figures=FIGURES,
        figure_rows=figure_rows(page),
        metric=status.metric,
        stage=text.stage_title(status),
        error=text.what_is_wrong(status),
        happens=text.what_happens(status),
        time_left=text.time_left(status.working, time.time()),
        findings=findings(page),
        error_rate_difference=error_rates_by_round(page.asked_in_full),
        classes=asked_classes(page) if "balance" in drawn else {},
        confusions=worst(page.held) if page.held is not None and "confusion" in drawn else [],
        class_results=class_results(page.held) if page.held is not None and "classes" in drawn else [],
        queue=queue,
        queued=pictures.queued(page, queue),
        show_all=show_all,
        worst=worst_images(page, WORST_ALL if show_worst else WORST_SHOWN),
        show_worst=show_worst,
        most_worst=WORST_ALL,
        overlay=pictures.overlay_of(page),
        colours=pictures.colours(page),
        palette=pictures.palette(page),
        broken=page.services.store.of(page.project.id).tasks.broken(BROKEN_SHOWN),
        exported=exported_model(page.project),
        formats=formats_of(page.problem.name),
        order=routes.last_order(page.project),
        phone=QUEUE_PHONE,
        steps=STEPS,
        confidence=routes.DEFAULT,
    )


@blueprint.get("/projects/<project:project_name>/figures/<name>.json")
def figure(project_name: str, name: str) -> ResponseReturnValue:
    """Return a figure as Plotly's JSON, or a sentence on what it waits for."""
    page = ProjectPage(services(), find_project(project_name))
    if name not in page.problem.figures:
        raise NotFound(f"this project has no figure '{name}': choose from {', '.join(page.problem.figures)}")
    drawn = FIGURES[name].draw(page)
    return fresh(jsonify({"waiting": drawn} if isinstance(drawn, str) else drawn))


@blueprint.get("/projects/<project:project_name>/images/<int:pool_index>.png")
def image(project_name: str, pool_index: int) -> ResponseReturnValue:
    """Return an image of the pool as the model sees it; with ``?small`` a thumbnail.

    An index of a bank always means the same image: an address that names the bank may be cached for ever.
    """
    page = ProjectPage(services(), find_project(project_name))
    bank = page.bank()
    if bank is None or pool_index >= len(bank):
        raise NotFound(f"project {project_name} has no image {pool_index}")
    shown = assets.png(bank, pool_index, small="small" in request.args)
    return _kept(shown, "image/png", request.args.get("bank") == bank_name(page.project))


@blueprint.get("/projects/<project:project_name>/views/<int(max=2147483647):pool_index>.jpg")
def view(project_name: str, pool_index: int) -> ResponseReturnValue:
    """Return an image of the pool with its aspect kept; with ``?small`` a thumbnail."""
    page = ProjectPage(services(), find_project(project_name))
    kept = pictures.views(page)
    if kept is None or not kept.knows(np.array([pool_index]))[0]:
        raise NotFound(f"project {project_name} has no view {pool_index}")
    shown = assets.jpeg(kept, pool_index, small="small" in request.args)
    return _kept(shown, "image/jpeg", request.args.get("bank") == bank_name(page.project))


@blueprint.get(
    "/projects/<project:project_name>/masks/<any(annotators,model,asked):whose>/<int(max=2147483647):pool_index>.png"
)
def mask(project_name: str, whose: str, pool_index: int) -> ResponseReturnValue:
    """Return a mask as a picture to lay over its image.

    whose: what annotators said of an image of the holdout, what the newest model says of it, or what the model said
    that asked for an image of the queue. An address with the digests of mask and colours may be cached for ever.
    """
    page = ProjectPage(services(), find_project(project_name))
    overlay = pictures.overlay_of(page)
    value = pictures.answer(page, whose, pool_index) if overlay is not None else None
    if overlay is None or value is None:
        raise NotFound(f"project {project_name} has no mask of image {pool_index}")
    (picture,) = pictures.pictures(page, [pool_index])
    ids = overlay.mask(value, picture.size, pictures.class_names(page))
    if ids is None:
        raise NotFound(f"nothing is painted in image {pool_index}")
    named = request.args.get("digest"), request.args.get("colours")
    return _kept(masks.picture(ids), "image/png", named == (masks.digest(value), pictures.palette(page)))


def _kept(content: bytes, mimetype: str, for_ever: bool) -> Response:
    response = Response(content, mimetype=mimetype)
    if for_ever:
        response.cache_control.max_age, response.cache_control.immutable = FOREVER_S, True
    response.cache_control.private = True
    return response


@blueprint.post("/projects/<project:project_name>/retry")
def retry(project_name: str) -> ResponseReturnValue:
    """Try failed work and quarantined images again now, and show the page."""
    csrf.check_same_origin("POST /api/projects/<id>/advance")
    services().retry_now(find_project(project_name))
    return redirect(url_for("dashboard.project", project_name=project_name), 303)


@blueprint.post("/projects/<project:project_name>/history")
def history(project_name: str) -> ResponseReturnValue:
    """Take what a person says of where the history belongs, and show the page."""
    csrf.check_same_origin("POST /api/projects/<name>/history")
    row = find_project(project_name)
    place_history(row, request.form.get("from") or None)
    return redirect(url_for("dashboard.project", project_name=project_name), 303)


@blueprint.get("/dashboard/plotly-<version>.js")
def plotly(version: str) -> ResponseReturnValue:
    """Return Plotly's script; its address changes with its version, so that it may be kept for ever."""
    script = assets.plotly()
    if script is None or script.version != version:
        raise NotFound("this version of Plotly is not installed")
    response = Response(script.compressed, mimetype="text/javascript")
    response.content_encoding = "gzip"
    response.cache_control.max_age, response.cache_control.immutable = FOREVER_S, True
    response.cache_control.public = True
    return response
