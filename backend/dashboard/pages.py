"""What all pages share: rendering, security headers, and 304 while nothing has changed."""

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, Conflict, Forbidden, HTTPException, NotFound

from backend.dashboard import assets
from backend.store import ProjectRow
from backend.web.security import csrf


def protect(response: Response) -> Response:
    """Return a response with the headers that tell browsers what they may do with it."""
    for name, value in csrf.HEADERS.items():
        response.headers[name] = value
    return response


def explain(error: HTTPException) -> ResponseReturnValue:
    """Return an error as a page, or as JSON to a script."""
    code = error.code or 500
    if not is_browser():
        return jsonify({"error": error.description}), code
    return render_template("dashboard/error.html", code=code, message=error.description), code


def prepare(blueprint: Blueprint) -> None:
    """Protect a blueprint's responses and explain its errors.

    A wrong password is not among these errors: the application's own response asks for one.
    """
    blueprint.after_request(protect)
    for kind in (NotFound, Forbidden, BadRequest, Conflict):
        blueprint.register_error_handler(kind, explain)


def is_browser() -> bool:
    """Tell whether the caller prefers a page to JSON."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def bank_name(row: ProjectRow) -> str:
    """Return the name of the image bank that a project's pool indices belong to."""
    return f"{row.id}-{row.image_side}-{row.fetching_since or 0:.0f}"


def render(template: str, code: int = 200, **context: Any) -> Response:
    """Return a rendered page."""
    page = render_template(
        template, plotly=assets.plotly_version(), static_version=_static_version(), bank_name=bank_name, **context
    )
    return fresh(Response(page, code, mimetype="text/html"))


def fresh(response: Response) -> Response:
    """Return a response that browsers ask for each time, 304 while nothing has changed."""
    response.add_etag()
    response.cache_control.no_cache = True
    response.cache_control.private = True
    response.vary.add("Accept")
    response.make_conditional(request)
    return response


def _static_version() -> str:
    folder = Path(__file__).parent / "static"
    return format(max(path.stat().st_mtime_ns for path in folder.iterdir()), "x")
