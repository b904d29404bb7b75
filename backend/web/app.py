"""The application: label-studio-ml's routes and ours, behind one way of handling errors."""

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
from backend.web.routes import downloads, project_status
from backend.web.security import auth, csrf, request_limits, response_limits
from backend.web.services import Services

logger = logging.getLogger(__name__)

MAX_REASON = 400  # characters of an error in the status line, which is all that Label Studio shows of it


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application on label-studio-ml's Flask object, of which a process has one.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = settings or Settings.from_env()
    services = Services(settings, Store(settings.database, settings.data_dir), lambda: Queueing.from_settings(settings))
    app = mlbackend.label_studio_ml_app()
    app.extensions["pt4al"] = services
    if "pt4al" not in app.blueprints:
        for subject in (project_status, autolabel_routes, downloads, autolabel_page):
            app.register_blueprint(subject.blueprint)
        dashboard.register(app)
        metrics.register(app)
        for check in (
            request_limits.limit,
            auth.check,
            csrf.refuse_other_sites,
            request_limits.check_values,
            mlbackend.check_body,
        ):
            app.before_request(check)
        app.after_request(response_limits.limit)
        app.register_error_handler(ConfigError, _bad_request)
        app.register_error_handler(QueueUnavailable, _unavailable)
        app.register_error_handler(StoreUnavailable, _unavailable)
        app.register_error_handler(RecursionError, _too_deep)
        app.register_error_handler(HTTPException, _http_error)
        app.register_error_handler(Exception, _unexpected)
    return app


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
    """Answer with the message in the body and, because Label Studio shows nothing else, in the status line."""
    response = jsonify({"error": message})
    reason = message.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")[:MAX_REASON]
    response.status = f"{code} {reason}"
    if code == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="pt4al"'
    return response
