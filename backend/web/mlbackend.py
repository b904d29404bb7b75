"""label-studio-ml's views, mounted in our application, and the manager that they call.

label-studio-ml keeps one model per process for all projects and runs every event as a job. Its views call the module's
``_manager``, which is replaced here by one that finds the services of the current application, reads the store and
wakes projects. The views pass neither the project's id nor ``extra_params`` where they should, so the manager reads
both from the request.
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, request
from werkzeug.exceptions import BadRequest, Conflict

from backend.config import ProjectConfig, as_mapping
from backend.errors import ConfigError, ProjectError
from backend.labeling.project import check_config
from backend.labeling.reader import read_labeling
from backend.store import ProjectRow
from backend.store.siblings import Place
from backend.web.predict import predict_tasks, served_version
from backend.web.reverse_proxy import called_by
from backend.web.services import Services, services


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """Make ``import torch`` fail during the block.

    label-studio-ml imports torch where it is installed, for multiprocessing that nothing here uses. That import takes
    seconds and a few hundred MB in every web process. A torch that is loaded already stays as it is.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


with _torch_hidden():
    from label_studio_ml import api
    from label_studio_ml.model import LabelStudioMLBase, LabelStudioMLManager, ModelWrapper

START_TRAINING = "START_TRAINING"
# (path, method, endpoint, label-studio-ml's view). ``/metrics`` is ours: see ``backend.web.metrics``.
VIEWS: tuple[tuple[str, str, str, Callable[[], Any]], ...] = (
    ("/", "GET", "health", api.health),
    ("/health", "GET", "health", api.health),
    ("/setup", "POST", "_setup", api._setup),
    ("/predict", "POST", "_predict", api._predict),
    ("/webhook", "POST", "webhook", api.webhook),
    ("/train", "POST", "_train", api._train),
    ("/is_training", "GET", "_is_training", api._is_training),
    ("/versions", "POST", "get_version", api.get_version),
)
POSTED_PATHS = frozenset(path for path, method, _, _ in VIEWS if method == "POST")


class ActiveLearning(LabelStudioMLBase):  # type: ignore[misc]
    """A project's newest model, as label-studio-ml's views use it: it answers from scores that workers have stored."""

    def __init__(self, project: ProjectRow) -> None:
        """Answer for ``project``."""
        self.project = project

    def predict(self, tasks: Sequence[dict[str, Any]], **_: Any) -> list[dict[str, Any]]:
        """Return one prediction per task."""
        return predict_tasks(services(), self.project, tasks)


class Manager(LabelStudioMLManager):  # type: ignore[misc]
    """What label-studio-ml's views call. Events are hints: they are never trusted, and may be lost."""

    model_dir = None

    @classmethod
    def fetch(cls, project: Any = None, label_config: Any = None, force_reload: bool = False, **given: Any) -> Any:
        """Answer ``/setup``: store how to reach the project, and wake it if something changed."""
        studio_project_id, created_ts = _project_uid(project)
        extra_params = _body().get("extra_params")
        current = services()
        # Before anything is written.
        server = _server(current, given.get("hostname"))
        known = current.store.projects.find(studio_project_id, created_ts, server)
        _check_extra_params(extra_params, label_config, known.control if known else None)
        row, changed = current.store.projects.connect(
            studio_project_id=studio_project_id,
            created_ts=created_ts,
            server=server,
            only=current.settings.label_studio_url is not None,
            hostname=_address(given.get("hostname")),
            token=_text(given.get("access_token")),
            backend_url=called_by(),
            label_config=_text(label_config) or "",
            extra_params=as_mapping(extra_params),
        )
        if changed:
            current.wake(row)
        return cls._wrapped(current, row)

    @classmethod
    def predict(cls, tasks: Any, project: Any = None, *_: Any, **__: Any) -> Any:
        """Answer ``/predict``."""
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise BadRequest("'tasks' has to be a list of tasks")
        current = services()
        row = _caller(current, project)
        if row is None:
            raise BadRequest("this project is not connected: call /setup first")
        wrapped = cls._wrapped(current, row)
        return wrapped.model.predict(tasks), wrapped

    @classmethod
    def webhook(cls, event: Any, data: Any) -> dict[str, Any]:
        """Answer ``/webhook``: wake the project, whatever the event says."""
        project = data.get("project")
        studio_project_id = project.get("id") if isinstance(project, dict) else None
        if not isinstance(studio_project_id, int) or isinstance(studio_project_id, bool):
            raise BadRequest("'project' has to be an object with a numeric 'id'")
        current = services()
        rows = [
            row
            for row in current.store.projects.all(studio_project_id=studio_project_id)
            if row.active or row.place == Place.AWAY  # it may be back
        ]
        for row in rows:
            if event == START_TRAINING and _requests_training(current, project, row):
                current.store.projects.set(row.id, training_requested=True)
            current.wake(row)
        return {"hinted": len(rows)}

    @classmethod
    def train(cls, tasks: Any, project: Any = None, label_config: Any = None, **_: Any) -> None:
        """Answer ``/train``, the older form of START_TRAINING."""
        current = services()
        row = _caller(current, project)
        if row is not None:
            current.store.projects.set(row.id, training_requested=True)
            current.wake(row)

    @classmethod
    def is_training(cls, project: Any) -> dict[str, Any]:
        """Answer ``/is_training``."""
        current = services()
        row = current.store.projects.find(*_project_uid(project))
        jobs = current.store.of(row.id).jobs.all() if row else []
        return {"is_training": any(job.kind == "retrain" for job in jobs), "backend": "redis"}

    @classmethod
    def _get_models_from_workdir(cls, project: Any) -> list[str]:
        current = services()
        row = current.store.projects.find(*_project_uid(project))
        return (
            [served_version(entry) for entry in current.store.of(row.id).rounds.all() if entry.has_model] if row else []
        )

    @classmethod
    def _wrapped(cls, current: Services, row: ProjectRow) -> Any:
        return ModelWrapper(
            model=ActiveLearning(row), model_version=served_version(current.store.of(row.id).rounds.newest_model())
        )


api._manager = Manager()  # the views look it up by this name; it has no state, so all applications share it


def mount(app: Flask) -> None:
    """Add label-studio-ml's views to ``app``, and ``GET /versions``, which Label Studio asks for as well."""
    views: dict[str, Callable[[], Any]] = {}
    for path, method, endpoint, view in VIEWS:
        views.setdefault(endpoint, _undecorated(view))  # Flask takes one function for each endpoint
        app.add_url_rule(path, endpoint, views[endpoint], methods=[method])
    app.add_url_rule("/versions", "no_versions", lambda: {"versions": []}, methods=["GET"])


def _undecorated(view: Callable[[], Any]) -> Callable[[], Any]:
    """Return the function below label-studio-ml's ``exception_handler``.

    That decorator answers every error with 500 and a traceback. Without it, errors reach the application's handlers.
    It sets no ``__wrapped__``; its closure names the function ``f``.
    """
    wrapped: Callable[[], Any] = inspect.getclosurevars(view).nonlocals.get("f", view)
    return wrapped


def check_body() -> None:
    """Refuse a body that label-studio-ml's views cannot handle.

    Raises:
        BadRequest: the body is not a JSON object, or a field has the wrong type.
    """
    if request.method == "POST" and request.path in POSTED_PATHS:
        body = _body()
        body.pop("params", None)  # label-studio-ml passes its entries on as keyword arguments, whatever they are
        if request.path == "/webhook" and not isinstance(body.get("action"), str):
            raise BadRequest("'action' has to name the event")
        if not isinstance(body.get("annotations", []), list):
            raise BadRequest("'annotations' has to be a list")


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadRequest("the body has to be a JSON object")
    if b"\\u" in request.get_data():  # half a surrogate pair is valid JSON, but cannot be stored or sent on
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise BadRequest("the body has a text that is not Unicode (half of a surrogate pair)") from error
    return body


def _check_extra_params(extra_params: Any, label_config: Any, learned: str | None) -> None:
    """Refuse extra params that are wrong, or that do not fit the labels of the project.

    A label configuration that cannot be worked on is no reason to refuse: the status says what is wrong with it.

    Raises:
        ConfigError: names the field, and the choices.
    """
    config = ProjectConfig.from_extra_params(extra_params)
    try:
        labeling = read_labeling(
            _text(label_config) or "", config.control, learned or None, config.problem, not config.ignores_background
        )
    except ProjectError:
        return
    check_config(config.suited(labeling.problem), labeling)


def _caller(current: Services, project: Any) -> ProjectRow | None:
    """Return the project that a request is about, that of the server that called ``/setup`` last.

    Raises:
        Conflict: two servers have the project, and nobody can tell which one calls.
    """
    uid = _project_uid(project)
    row = current.store.projects.caller(*uid)
    if row is None and len(current.store.projects.of_uid(*uid, active=True)) > 1:
        raise Conflict("two Label Studios have this project and call at the same time: try again in a few seconds")
    return row or current.store.projects.find(*uid)


def _project_uid(project: Any) -> tuple[int, str]:
    """Return (id, creation time in seconds) from Label Studio's "<id>.<creation time>".

    Raises:
        BadRequest: it has another form.
    """
    studio_project_id, _, created_ts = str(project or "").partition(".")
    if not (
        studio_project_id.isascii() and studio_project_id.isdigit() and created_ts.isascii() and created_ts.isdigit()
    ):
        raise BadRequest("'project' has to be '<id>.<creation time in seconds>'")
    if len(studio_project_id) > 18 or len(created_ts) > 18:
        raise BadRequest("'project' has numbers that are too long")
    return int(studio_project_id), created_ts


def _server(current: Services, hostname: Any) -> str:
    """Return Label Studio's address: LABEL_STUDIO_URL, else what it calls itself, which may be unreachable.

    Raises:
        ConfigError: neither is there.
    """
    server = current.settings.label_studio_url or _address(hostname)
    if server is None:
        raise ConfigError("Label Studio did not say its address: set LABEL_STUDIO_URL where this backend runs")
    return server


def _address(value: Any) -> str | None:
    """Return a web address without a slash at its end; None for anything else, which must not become a link."""
    text = _text(value)
    try:
        parts = urlsplit(text or "")
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # invalid brackets or an invalid port
        return None
    return text.rstrip("/") if text is not None and valid else None


def _requests_training(current: Services, project: dict[str, Any], row: ProjectRow) -> bool:
    """Return whether START_TRAINING is about this project and comes from a person who pressed the button.

    With "start model training on annotation submission" Label Studio sends it with every answer. It is ignored then:
    rounds end by themselves, and one answer is not a round.
    """
    if project.get("start_training_on_annotation_update"):
        return False
    try:
        created = datetime.fromisoformat(str(project.get("created_at")))
    except ValueError:
        return True
    if str(int(created.timestamp())) != row.created_ts:
        return False
    others = [one for one in current.store.projects.siblings(row) if one.active]
    served = current.store.of(row.id).rounds.current()
    return not others or served is None or project.get("model_version") in (None, served.model_version)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
