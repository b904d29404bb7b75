"""One Label Studio server, and one project on it: every call that the backend makes, typed.

All calls of one ``LabelStudio`` share a pool of connections and may come from any thread. Calls that read, or that set
a value, are repeated with backoff while Label Studio fails in a way that may pass; those that create something are
repeated only when it has certainly not begun them. Errors are those of ``backend.errors``.
"""

from collections.abc import Mapping, Sequence

from backend.addresses import AllowedAddresses
from backend.studio import download, tab
from backend.studio.predictions import ProjectPredictions
from backend.studio.responses import odd_answer
from backend.studio.session import PUBLIC_ONLY, Observer, StudioSession, unobserved
from backend.studio.tasks import ProjectTasks
from backend.studio.types import Json, MlBackend, NamedToken, ProjectInfo, Webhook, parse_time

# Counting queue and finished tasks, which the whole record does, costs more than all of these together.
PROJECT_FIELDS = "id,title,created_at,label_config,sampling,model_version,task_number"


class LabelStudio:
    """One Label Studio server, as the project ``/setup`` was sent for sees it."""

    def __init__(
        self,
        server: str,
        tokens: Sequence[NamedToken],
        allowed: AllowedAddresses = PUBLIC_ONLY,
        observe: Observer = unobserved,
        public: str | None = None,
    ) -> None:
        """Take the server's address (a path is kept), the tokens in the order to be tried, and where images may be.

        ``observe`` gets each call's name, seconds and success. ``public`` is what Label Studio calls itself: addresses
        under it, which task data may hold, are asked for at ``server``.
        """
        self.session = StudioSession(server, tokens, allowed, observe, public)

    def __repr__(self) -> str:
        return f"LabelStudio({self.session.base!r})"

    def project(self, studio_project_id: int) -> "StudioProject":
        """Return the handle of a project, by Label Studio's id; nothing is sent yet."""
        return StudioProject(self.session, studio_project_id)


class StudioProject:
    """One project in Label Studio: its settings, tasks, predictions, and what is connected to it."""

    def __init__(self, session: StudioSession, studio_project_id: int) -> None:
        """Use ``LabelStudio.project``."""
        self.id = studio_project_id
        self._session = session
        self.base = session.base
        self.tasks = ProjectTasks(session, studio_project_id)
        self.predictions = ProjectPredictions(session, studio_project_id, self.tasks)

    def __repr__(self) -> str:
        return f"StudioProject({self._session.base!r}, {self.id})"

    def settings(self) -> ProjectInfo:
        """Read the project's settings and counts (60 ms at 50,000 tasks).

        Raises:
            StudioMissing: there is no such project.
            StudioUnreachable: something else than Label Studio answers.
        """
        path = f"/api/projects/{self.id}/"
        raw = self._session.get(path, include=PROJECT_FIELDS)
        # The first that is asked of a server: a program that answers this answers the rest.
        try:
            return _project_info(raw)
        except (KeyError, TypeError, ValueError) as error:
            raise odd_answer(self.base, f"GET {path}") from error

    def update(self, *, sampling: str | None = None, model_version: str | None = None) -> None:
        """Set what is given. A ``model_version`` is accepted once a prediction of it exists."""
        given = {"sampling": sampling, "model_version": model_version}
        body = {name: value for name, value in given.items() if value is not None}
        self._session.call("PATCH", f"/api/projects/{self.id}/", params={"include": "id"}, body=body)

    def ml_backends(self) -> list[MlBackend]:
        """List the connected models. Label Studio calls ``/health`` and ``/setup`` of each one meanwhile."""
        return [
            MlBackend(
                id=raw["id"],
                project=raw["project"],
                url=raw["url"],
                title=raw["title"] or "",
                description=raw["description"] or "",
                extra_params=raw["extra_params"],
                auth_method=raw["auth_method"] or "NONE",
                basic_auth_user=raw["basic_auth_user"] or "",
                state=raw["state"],
                version=raw.get("model_version") or "",
            )
            for raw in self._session.get("/api/ml/", project=self.id)
        ]

    def describe_backend(self, backend: MlBackend, description: str) -> None:
        """Write the text on a model's card and nothing else; calls its ``/health`` and ``/setup`` three times."""
        body: dict[str, Json] = {
            "description": description,
            # The rest is as it was: Label Studio calls /setup with what stands here, and only with that.
            "url": backend.url,
            "project": backend.project,
            "title": backend.title,
            "extra_params": backend.extra_params,
            "auth_method": backend.auth_method,
        }
        if backend.auth_method == "BASIC_AUTH":
            # An empty password stands for the one that Label Studio holds.
            body |= {"basic_auth_user": backend.basic_auth_user, "basic_auth_pass": ""}
        self._session.call("PATCH", f"/api/ml/{backend.id}", body=body)

    def webhooks(self) -> list[Webhook]:
        """List the project's webhooks."""
        return [
            Webhook(
                id=raw["id"],
                url=raw["url"],
                is_active=raw["is_active"],
                send_payload=raw["send_payload"],
                send_for_all_actions=raw["send_for_all_actions"],
                headers=raw["headers"] or {},
            )
            for raw in self._session.get("/api/webhooks/", project=self.id)
        ]

    def ensure_webhook(self, url: str, headers: Mapping[str, str]) -> None:
        """See to it that a webhook for all actions, with payload and these headers, points at ``url``."""
        wanted = {"is_active": True, "send_payload": True, "send_for_all_actions": True}
        ours = [hook for hook in self.webhooks() if hook.url.rstrip("/") == url.rstrip("/")]
        for hook in ours:
            as_wanted = hook.is_active and hook.send_payload and hook.send_for_all_actions
            if not (as_wanted and headers.items() <= hook.headers.items()):
                body = {**wanted, "headers": {**hook.headers, **headers}}
                self._session.call("PATCH", f"/api/webhooks/{hook.id}/", body=body)
        if not ours:
            body = {**wanted, "project": self.id, "url": url, "headers": dict(headers)}
            self._session.call("POST", "/api/webhooks/", body=body, repeatable=False)

    def ensure_tab(self, title: str) -> int:
        """See to it that the Data Manager has our tab; return its id."""
        return tab.ensure(self._session, self.id, title)

    def fetch(self, reference: str, task_id: int) -> bytes:
        """Download the image that a task's data names: an upload, a local file, a web address, cloud storage.

        Raises:
            ImageUnavailable: its source failed in a way that may pass.
            ImageError: it cannot be had.
        """
        return download.fetch(self._session, reference, task_id)


def _project_info(raw: Json) -> ProjectInfo:
    """Build a project's settings from their JSON; raises KeyError, TypeError or ValueError for another form."""
    parse_time(raw["created_at"])
    return ProjectInfo(
        id=raw["id"],
        title=raw["title"] or "",
        created_at=raw["created_at"],
        label_config=raw["label_config"] or "",
        sampling=raw["sampling"] or "",
        model_version=raw["model_version"] or "",
        task_number=raw["task_number"] or 0,
    )
