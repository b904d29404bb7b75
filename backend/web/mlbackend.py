"""The label-studio-ml contract: its application, with a manager that knows projects.

label-studio-ml keeps one model per process for all projects and runs every event as a job. Its routes call the module's
``_manager``, which is replaced here by one that reads the store and leaves hints; they hand it neither the project's id
nor ``extra_params`` where they should, so that it reads those from the request.
"""

import json
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, request
from werkzeug.exceptions import BadRequest

from backend.config import ProjectConfig, as_mapping
from backend.errors import ConfigError, QueueUnavailable
from backend.store import ProjectRow
from backend.web.predict import predict_tasks, served_version
from backend.web.services import Services, services

if TYPE_CHECKING:
    from label_studio_ml.model import LabelStudioMLBase, LabelStudioMLManager, ModelWrapper
else:
    # label-studio-ml loads torch if it is there, for its multiprocessing. A web process must not: it starts in a second
    # and stays small without.
    _torch = sys.modules.get("torch")
    if _torch is None:
        sys.modules["torch"] = None
    try:
        from label_studio_ml import exceptions

        # Its decorator answers every error with 500 and a traceback; without it they reach our handlers.
        exceptions.exception_handler = lambda view: view
        from label_studio_ml.model import LabelStudioMLBase, LabelStudioMLManager, ModelWrapper

        import_module("label_studio_ml.api")
    finally:
        if _torch is None:
            del sys.modules["torch"]

logger = logging.getLogger(__name__)

START_TRAINING = "START_TRAINING"
POSTED_ROUTES = frozenset({"/setup", "/predict", "/webhook", "/train", "/versions"})


class ActiveLearning(LabelStudioMLBase):  # type: ignore[misc]
    """A project's newest model, as label-studio-ml sees it: it answers from scores that the workers have stored."""

    def __init__(self, project: ProjectRow) -> None:
        """Stand for ``project``."""
        self.project = project

    def predict(self, tasks: Sequence[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:
        """Give one prediction per task."""
        return predict_tasks(services(), self.project, tasks)


class Manager(LabelStudioMLManager):  # type: ignore[misc]
    """What label-studio-ml's routes call. Events are hints: they are never trusted, and may be lost."""

    model_dir = None

    @classmethod
    def fetch(cls, project: Any = None, label_config: Any = None, force_reload: bool = False, **given: Any) -> Any:
        """Answer ``/setup``: note how to reach the project and ask for it to be advanced."""
        studio_project_id, created_ts = _project_uid(project)
        extra_params = _body().get("extra_params")
        ProjectConfig.from_extra_params(extra_params)  # refuse before anything is written
        here = services()
        row, changed = here.store.projects.connect(
            studio_project_id=studio_project_id,
            created_ts=created_ts,
            server=_server(here, given.get("hostname")),
            hostname=_address(given.get("hostname")),
            token=_text(given.get("access_token")),
            backend_url=request.url_root.rstrip("/"),
            label_config=_text(label_config) or "",
            extra_params=as_mapping(extra_params),
        )
        if changed:
            _wake(here, row)
        return cls._wrapped(here, row)

    @classmethod
    def predict(cls, tasks: Any, project: Any = None, *_: Any, **__: Any) -> Any:
        """Answer ``/predict``."""
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise BadRequest("'tasks' has to be a list of tasks")
        here = services()
        row = here.store.projects.find(*_project_uid(project))
        if row is None:
            raise BadRequest("this project is not connected: call /setup first")
        wrapped = cls._wrapped(here, row)
        return wrapped.model.predict(tasks), wrapped

    @classmethod
    def webhook(cls, event: Any, data: Any) -> dict[str, Any]:
        """Answer ``/webhook``: whatever happened, the project is looked at."""
        project = data.get("project")
        studio_project_id = project.get("id") if isinstance(project, dict) else None
        if not isinstance(studio_project_id, int) or isinstance(studio_project_id, bool):
            raise BadRequest("'project' has to be an object with a numeric 'id'")
        here = services()
        rows = here.store.projects.all(active=True, studio_project_id=studio_project_id)
        for row in rows:
            if event == START_TRAINING and _means(project, row):
                here.store.projects.set(row.id, training_requested=True)
            _wake(here, row)
        return {"hinted": len(rows)}

    @classmethod
    def train(cls, tasks: Any, project: Any = None, label_config: Any = None, **_: Any) -> None:
        """Answer ``/train``, the older form of START_TRAINING."""
        studio_project_id, created_ts = _project_uid(project)
        here = services()
        row = here.store.projects.find(studio_project_id, created_ts)
        if row is not None:
            here.store.projects.set(row.id, training_requested=True)
            _wake(here, row)

    @classmethod
    def is_training(cls, project: Any) -> dict[str, Any]:
        """Answer ``/is_training``."""
        here = services()
        row = here.store.projects.find(*_project_uid(project))
        jobs = here.store.of(row.id).jobs.all() if row else []
        return {"is_training": any(job.kind == "retrain" for job in jobs), "backend": "redis"}

    @classmethod
    def _get_models_from_workdir(cls, project: Any) -> list[str]:
        here = services()
        row = here.store.projects.find(*_project_uid(project))
        return [served_version(entry) for entry in here.store.of(row.id).rounds.all() if entry.has_model] if row else []

    @classmethod
    def _wrapped(cls, here: Services, row: ProjectRow) -> Any:
        return ModelWrapper(
            model=ActiveLearning(row), model_version=served_version(here.store.of(row.id).rounds.newest_model())
        )


def label_studio_ml_app() -> Flask:
    """Give label-studio-ml's Flask application, answering through our manager."""
    api = sys.modules["label_studio_ml.api"]
    api._manager = Manager()  # type: ignore[attr-defined]
    app: Flask = api._server
    if "pt4al" not in app.extensions:
        _drop_defaults(app)
    return app


def _drop_defaults(app: Flask) -> None:
    """Take away what logs tokens or answers errors in other ways than ours, and answer GET /versions as well."""
    app.before_request_funcs.clear()
    app.after_request_funcs.clear()
    app.error_handler_spec.clear()
    app.add_url_rule("/versions", "no_versions", lambda: {"versions": []}, methods=["GET"])


def check_body() -> None:
    """Refuse a body that label-studio-ml's routes would stumble over."""
    if request.method == "POST" and request.path in POSTED_ROUTES:
        body = _body()
        body.pop("params", None)  # label-studio-ml spreads it over our methods' arguments, whatever it holds
        if request.path == "/webhook" and not isinstance(body.get("action"), str):
            raise BadRequest("'action' has to name the event")
        if not isinstance(body.get("annotations", []), list):
            raise BadRequest("'annotations' has to be a list")


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadRequest("the body has to be a JSON object")
    if b"\\u" in request.get_data():  # half a surrogate pair is JSON, but nothing that could be stored or sent on
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise BadRequest("the body has a text that is not Unicode (half of a surrogate pair)") from error
    return body


def _project_uid(project: Any) -> tuple[int, str]:
    """Read "<id>.<created timestamp>", which is how Label Studio names a project to us."""
    studio_project_id, _, created_ts = str(project or "").partition(".")
    if not (
        studio_project_id.isascii() and studio_project_id.isdigit() and created_ts.isascii() and created_ts.isdigit()
    ):
        raise BadRequest("'project' has to be '<id>.<creation time in seconds>'")
    if len(studio_project_id) > 18 or len(created_ts) > 18:
        raise BadRequest("'project' has numbers that are too long")
    return int(studio_project_id), created_ts


def _server(here: Services, hostname: Any) -> str:
    """Give Label Studio's address: LABEL_STUDIO_URL, else what it calls itself, which is often out of our reach."""
    server = here.settings.label_studio_url or _address(hostname)
    if server is None:
        raise ConfigError("Label Studio did not say its address: set LABEL_STUDIO_URL where this backend runs")
    return server


def _address(value: Any) -> str | None:
    """Give a web address without a slash at its end; None for anything else, which must not become a link."""
    text = _text(value)
    try:
        parts = urlsplit(text or "")
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return None
    return text.rstrip("/") if text is not None and whole else None


def _means(project: dict[str, Any], row: ProjectRow) -> bool:
    """Tell whether START_TRAINING is about this project, and comes from a person who pressed the button.

    With "start model training on annotation submission" Label Studio sends it with every answer: rounds end by
    themselves, and one answer is no round.
    """
    if project.get("start_training_on_annotation_update"):
        return False
    try:
        created = datetime.fromisoformat(str(project.get("created_at")))
    except ValueError:
        return True
    return str(int(created.timestamp())) == row.created_ts


def _wake(here: Services, row: ProjectRow) -> None:
    try:
        here.queueing.wake(row.id)
    except QueueUnavailable as error:
        logger.warning("%s; the timer will advance project %s", error, row.studio_project_id)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
