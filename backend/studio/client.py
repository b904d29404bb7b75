"""The gateway to Label Studio: every call that the backend makes, typed.

All calls of one `LabelStudio` share a pool of connections and may come from any thread. Calls that read, or that set a
value, are repeated with backoff while Label Studio fails in a way that may pass; those that create something are
repeated only when it has certainly not begun them. Errors are those of `backend.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from backend.addresses import AllowedAddresses
from backend.chunks import chunks
from backend.studio import download, predictions, tab, tasks
from backend.studio.session import PUBLIC_ONLY, Observer, StudioSession, unobserved
from backend.studio.types import (
    AnnotationRecord,
    Json,
    MlBackend,
    NamedToken,
    Prediction,
    ProjectInfo,
    StoredPrediction,
    TaskPage,
    TaskRecord,
    Webhook,
)

__all__ = [
    "AnnotationRecord",
    "LabelStudio",
    "MlBackend",
    "NamedToken",
    "Prediction",
    "ProjectInfo",
    "StoredPrediction",
    "TaskPage",
    "TaskRecord",
    "Webhook",
]

# Counting queue and finished tasks, which the whole record does, costs more than all of these together.
PROJECT_FIELDS = (
    "id,title,created_at,label_config,sampling,model_version,task_number,"
    "total_annotations_number,skipped_annotations_number,maximum_annotations,skip_queue"
)

FIELD_TASKS = 2000
"""Tasks that get a field in one request: under half a second, in which annotators' saves wait."""


class LabelStudio:
    """One Label Studio server, as the project `/setup` was sent for sees it."""

    def __init__(
        self,
        server: str,
        tokens: Sequence[NamedToken],
        allowed: AllowedAddresses = PUBLIC_ONLY,
        observe: Observer = unobserved,
    ) -> None:
        """Take the server's address (a path is kept), the tokens in the order to be tried, and where images may be.

        `observe` gets each call's name, seconds and success.
        """
        self.session = StudioSession(server, tokens, allowed, observe)

    def __repr__(self) -> str:
        return f"LabelStudio({self.session.base!r})"

    # The project

    def project(self, project_id: int) -> ProjectInfo:
        """Read the project's settings and counts (60 ms at 50,000 tasks).

        Raises:
            StudioMissing: there is no such project.
        """
        raw = self.session.get(f"/api/projects/{project_id}/", include=PROJECT_FIELDS)
        return ProjectInfo(
            id=raw["id"],
            title=raw["title"] or "",
            created_at=raw["created_at"],
            label_config=raw["label_config"] or "",
            sampling=raw["sampling"] or "",
            model_version=raw["model_version"] or "",
            task_number=raw["task_number"] or 0,
            total_annotations=raw["total_annotations_number"] or 0,
            skipped_annotations=raw["skipped_annotations_number"] or 0,
            maximum_annotations=raw["maximum_annotations"],
            skip_queue=raw["skip_queue"] or "",
        )

    def update_project(self, project_id: int, *, sampling: str | None = None, model_version: str | None = None) -> None:
        """Set what is given. A `model_version` is accepted once a prediction of it exists."""
        given = {"sampling": sampling, "model_version": model_version}
        body = {name: value for name, value in given.items() if value is not None}
        self.session.call("PATCH", f"/api/projects/{project_id}/", params={"include": "id"}, body=body)

    # Tasks

    def changed_tasks(self, project_id: int, since: str | None) -> Iterator[TaskPage]:
        """Yield tasks with annotations, oldest change first, that changed after the cursor `since`.

        Store a page, then its `cursor`, and hand that in the next time. What changed in the last seconds comes again
        then, so storing must not mind doubles.
        """
        return tasks.changed(self.session, project_id, since)

    def task_ids(self, project_id: int) -> list[int]:
        """List the ids of all tasks, 0.2 s a thousand: compare `ProjectInfo.task_number` first."""
        return tasks.ids(self.session, project_id)

    def tasks(self, project_id: int, task_ids: Sequence[int]) -> list[TaskRecord]:
        """Read these tasks with their annotations; those that are gone are left out."""
        return tasks.by_id(self.session, project_id, task_ids)

    def set_field(self, project_id: int, task_ids: Sequence[int], name: str, value: float) -> None:
        """Give these tasks the same number in one field of their data; does not move their `updated_at`."""
        for part in chunks(task_ids, FIELD_TASKS):
            predictions.action(
                self.session,
                project_id,
                "add_data_field",
                part,
                value_name=name,
                value_type="Number",
                value=repr(value),
            )

    # Predictions

    def import_predictions(self, project_id: int, items: Sequence[Prediction]) -> list[int]:
        """Write predictions; return the tasks among them that are gone. After an error, see `predicted_tasks`."""
        return predictions.write(self.session, project_id, items)

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Count the predictions of each version."""
        counts = self.session.get(f"/api/projects/{project_id}/model-versions/")
        return {version: count for version, count in counts.items() if count}

    def predicted_tasks(self, project_id: int, model_version: str) -> dict[int, float | None]:
        """Map the tasks that carry a prediction of this version to its score."""
        return {one.task: one.score for one in self.stored_predictions(project_id, model_version)}

    def stored_predictions(self, project_id: int, model_version: str) -> list[StoredPrediction]:
        """List the predictions of a version, doubles included."""
        return predictions.stored(self.session, project_id, model_version)

    def delete_predictions(
        self, project_id: int, model_version: str, *, most: int | None = None, beat: Callable[[], None] = lambda: None
    ) -> bool:
        """Delete a version's predictions, or at most `most` of them; return whether all are gone.

        `beat` is called now and then, and may raise to stop.
        """
        return predictions.delete_version(self.session, project_id, model_version, most, beat)

    def delete_single_predictions(self, prediction_ids: Sequence[int]) -> None:
        """Delete predictions by their ids; moves the `updated_at` of their tasks."""
        predictions.delete(self.session, prediction_ids)

    # What is connected to the project

    def ml_backends(self, project_id: int) -> list[MlBackend]:
        """List the connected models. Label Studio calls `/health` and `/setup` of each one meanwhile."""
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
            )
            for raw in self.session.get("/api/ml/", project=project_id)
        ]

    def describe_backend(self, backend: MlBackend, description: str) -> None:
        """Write the text on a model's card, and nothing else of it; calls its `/health` and `/setup` three times."""
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
        self.session.call("PATCH", f"/api/ml/{backend.id}", body=body)

    def webhooks(self, project_id: int) -> list[Webhook]:
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
            for raw in self.session.get("/api/webhooks/", project=project_id)
        ]

    def ensure_webhook(self, project_id: int, url: str, headers: Mapping[str, str]) -> None:
        """See to it that a webhook for all actions, with payload and these headers, points at `url`."""
        wanted = {"is_active": True, "send_payload": True, "send_for_all_actions": True}
        ours = [hook for hook in self.webhooks(project_id) if hook.url.rstrip("/") == url.rstrip("/")]
        for hook in ours:
            as_wanted = hook.is_active and hook.send_payload and hook.send_for_all_actions
            if not (as_wanted and headers.items() <= hook.headers.items()):
                body = {**wanted, "headers": {**hook.headers, **headers}}
                self.session.call("PATCH", f"/api/webhooks/{hook.id}/", body=body)
        if not ours:
            body = {**wanted, "project": project_id, "url": url, "headers": dict(headers)}
            self.session.call("POST", "/api/webhooks/", body=body, repeatable=False)

    def ensure_tab(self, project_id: int, title: str) -> int:
        """See to it that the Data Manager has our tab; return its id."""
        return tab.ensure(self.session, project_id, title)

    # Files

    def fetch(self, reference: str, task_id: int) -> bytes:
        """Download the image that a task's data names: an upload, a local file, a web address, cloud storage.

        Raises:
            ImageUnavailable: its source failed in a way that may pass.
            ImageError: it cannot be had.
        """
        return download.fetch(self.session, reference, task_id)
