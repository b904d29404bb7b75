"""The application factory: label-studio-ml's views and our routes, with one way to answer errors."""

import logging

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from backend import dashboard
from backend.autolabel import page as autolabel_page
from backend.autolabel import routes as autolabel_routes
from backend.config import Settings
from backend.errors import ConfigError, QueueUnavailable, StoreUnavailable
from backend.queueing.queues import Queueing
from backend.store import Store
from backend.web import metrics, mlbackend
from backend.web.reverse_proxy import ReverseProxy
from backend.web.routes import downloads, project_status
from backend.web.security import auth, csrf, request_limits, response_limits
from backend.web.services import Services

logger = logging.getLogger(__name__)

MAX_REASON = 400  # characters of an error in the status line, which is all that Label Studio shows of it


def create_app(settings: Settings | None = None) -> Flask:
    """Return a new application; several in one process share nothing but the limits of the process.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = settings or Settings.from_env()
    app = Flask(__name__)
    app.extensions["pt4al"] = Services(
        settings, Store.from_settings(settings), lambda: Queueing.from_settings(settings)
    )
    project_status.register_names(app)
    mlbackend.mount(app)
    metrics.register(app)
    for module in (project_status, autolabel_routes, downloads, autolabel_page):
        app.register_blueprint(module.blueprint)
    dashboard.register(app)
    _add_checks(app)
    _add_error_handlers(app)
    proxy = ReverseProxy(app, settings.dashboard_url, settings.trusted_networks)
    app.wsgi_app = proxy  # type: ignore[method-assign] # as Flask documents it
    return app


def _add_checks(app: Flask) -> None:
    """Check each request before its view, in this order: cheap checks, and those that read no body, come first."""
    for check in (
        request_limits.limit,
        auth.check,
        csrf.refuse_other_sites,
        request_limits.check_values,
        mlbackend.check_body,
    ):
        app.before_request(check)
    app.after_request(response_limits.limit)


def _add_error_handlers(app: Flask) -> None:
    app.register_error_handler(ConfigError, _bad_request)
    app.register_error_handler(QueueUnavailable, _unavailable)
    app.register_error_handler(StoreUnavailable, _unavailable)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _bad_request(error: ConfigError) -> Response:
    return _error(400, str(error))


def _too_deep(error: RecursionError) -> Response:
    return _error(400, "the body is nested too deeply")


def _unavailable(error: QueueUnavailable | StoreUnavailable) -> Response:
    return _error(503, str(error))


def _http_error(error: HTTPException) -> Response:
    return _error(error.code or 500, error.description or error.name)


def _unexpected(error: Exception) -> Response:
    logger.exception("%s %s failed", request.method, request.path)
    return _error(500, f"{type(error).__name__}: see the backend's log")


def _error(code: int, message: str) -> Response:
    """Return an answer with the message in its body and in the status line: Label Studio shows only the latter."""
    response = jsonify({"error": message})
    reason = message.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")[:MAX_REASON]
    response.status = f"{code} {reason}"
    if code == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="pt4al"'
    return response
