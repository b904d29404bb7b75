"""Authentication: basic auth where it is configured, and for webhooks also the secret of the project."""

import hmac

from flask import request
from werkzeug.exceptions import Unauthorized

from backend.config import SECRET_HEADER
from backend.store import ProjectRow
from backend.web.security import request_limits
from backend.web.services import services

OPEN_PATHS = frozenset({"/health"})


def check() -> None:
    """Refuse a request without the configured user and password.

    Label Studio sends annotation webhooks without basic auth, but with the secret header that this backend has
    configured there. The body of a request without either is not read.

    Raises:
        Unauthorized: password and secret are missing or wrong.
    """
    settings = services().settings
    if not settings.basic_auth_user or settings.basic_auth_pass is None or request.path in OPEN_PATHS:
        return
    given = request.authorization
    if (
        given is not None
        and given.type == "basic"
        and _same(given.username, settings.basic_auth_user)
        and _same(given.password, settings.basic_auth_pass.get_secret_value())
    ):
        return
    if request.path == "/webhook" and _has_project_secret():
        return
    raise Unauthorized("user and password are missing or wrong (BASIC_AUTH_USER, BASIC_AUTH_PASS)")


def _has_project_secret() -> bool:
    """Return whether the request has the secret of its project; without a known secret its body is not parsed."""
    secret = request.headers.get(SECRET_HEADER)
    projects = services().store.projects
    known: list[ProjectRow] = []
    if secret:
        known = [row for row in projects.all() if _same(secret, projects.webhook_secret(row))]
    if not known:
        return False
    request_limits.check_values()
    body = request.get_json(silent=True)
    project = body.get("project") if isinstance(body, dict) else None
    studio_project_id = project.get("id") if isinstance(project, dict) else None
    return any(row.studio_project_id == studio_project_id for row in known)


def _same(given: str | None, expected: str | None) -> bool:
    return hmac.compare_digest((given or "").encode(), (expected or "").encode()) and bool(expected)
