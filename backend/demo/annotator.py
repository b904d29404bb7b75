"""A person at Label Studio, played by a program: for the demo, the tests and the documentation.

It signs in with e-mail and password as a browser does, so that it needs no token and works whatever tokens the server
allows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from backend.chunks import chunks
from backend.errors import StudioMissing, StudioRefused
from backend.studio.responses import read_json, unreachable
from backend.studio.session import CONNECT_S, READ_S
from backend.studio.types import Json

FILES = 50
"""Files an upload; Label Studio takes 100 at most."""
UPLOAD_S = 300.0


@dataclass(frozen=True, slots=True)
class ServedTask:
    """What Label Studio's label stream put before the annotator."""

    id: int
    data: Mapping[str, Json]
    predictions: Sequence[Mapping[str, Json]]
    queue: str
    """Label Studio's own words for where the task came from."""


class Annotator:
    """One signed-in account; not to be shared between threads."""

    def __init__(self, server: str, email: str, password: str, *, sign_up: bool = False) -> None:
        """Sign in, or make the account first.

        Raises:
            StudioRefused: the e-mail or the password is not accepted.
            StudioUnreachable: the server does not answer.
        """
        self.server = server.rstrip("/")
        self.email = email
        self._http = requests.Session()
        self._http.trust_env = False
        path = "/user/signup/" if sign_up else "/user/login/"
        self._send("GET", path)
        form = {"email": email, "password": password, "csrfmiddlewaretoken": self._csrf, "persist_session": "on"}
        answer = self._send("POST", path, data=form)
        if not answer.is_redirect:
            raise StudioRefused(f"{self.server} does not accept {email} and that password at {path}")

    def __repr__(self) -> str:
        return f"Annotator({self.server!r}, {self.email!r})"

    # Setting a project up

    def create_project(self, title: str, label_config: str) -> int:
        """Create a project; return its id."""
        return int(self.call("POST", "/api/projects/", {"title": title, "label_config": label_config})["id"])

    def upload_images(self, project_id: int, files: Iterable[Path | tuple[str, bytes]]) -> int:
        """Upload image files (paths, or names with contents) as tasks; return how many tasks came of it."""
        named = [(file.name, file.read_bytes()) if isinstance(file, Path) else file for file in files]
        made = 0
        for part in chunks(named, FILES):
            answer = self._send(
                "POST",
                f"/api/projects/{project_id}/import",
                # A field of its own for each: of several files under one name Label Studio keeps the last.
                files={f"file{number}": file for number, file in enumerate(part)},
                timeout=(CONNECT_S, UPLOAD_S),
            )
            made += int(read_json(answer, self.server, "POST /api/projects/import")["task_count"])
        return made

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Json]]) -> int:
        """Import tasks as JSON (`{"data": ..., "annotations": ...}`); return how many were made."""
        return int(self.call("POST", f"/api/projects/{project_id}/import", list(tasks))["task_count"])

    def connect_backend(
        self, project_id: int, url: str, extra_params: Json = None, *, title: str = "PT4AL", **fields: Json
    ) -> int:
        """Connect a model as the Model page does; return its id there. `fields` are Label Studio's, such as auth."""
        body = {"project": project_id, "url": url, "title": title, **fields}
        if extra_params is not None:
            # The page's field is a text; a mapping is sent as the JSON that one would type.
            body["extra_params"] = extra_params if isinstance(extra_params, str) else json.dumps(extra_params)
        return int(self.call("POST", "/api/ml/", body)["id"])

    def create_access_token(self) -> str:
        """Create a personal access token, as Account & Settings does."""
        return str(self.call("POST", "/api/token/", {})["token"])

    def allow_legacy_tokens(self, allowed: bool) -> None:
        """Switch legacy tokens on or off for the organization."""
        self.call("POST", "/api/jwt/settings", {"legacy_api_tokens_enabled": allowed, "api_tokens_enabled": True})

    # Labeling

    def next_task(self, project_id: int) -> ServedTask | None:
        """Ask the label stream ("Label All Tasks") for a task; None when it has no more."""
        try:
            raw = self.call("GET", f"/api/projects/{project_id}/next/")
        except StudioMissing:
            return None
        return ServedTask(raw["id"], raw["data"], tuple(raw.get("predictions") or ()), raw.get("queue", ""))

    def annotate(self, task_id: int, result: Sequence[Mapping[str, Json]], lead_time: float = 1.0) -> int:
        """Submit an annotation; return its id. `lead_time` is in seconds."""
        body = {"result": list(result), "lead_time": lead_time}
        return int(self.call("POST", f"/api/tasks/{task_id}/annotations/", body)["id"])

    def skip(self, task_id: int, lead_time: float = 1.0) -> int:
        """Press "Skip"; return the id of the cancelled annotation."""
        body = {"result": [], "was_cancelled": True, "lead_time": lead_time}
        return int(self.call("POST", f"/api/tasks/{task_id}/annotations/", body)["id"])

    # Anything else

    def call(self, method: str, path: str, body: Json = None, **params: Json) -> Json:
        """Call the API as the page in the browser does; errors are those of `backend.errors`."""
        return read_json(self._send(method, path, json=body, params=params), self.server, f"{method} {path}")

    @property
    def _csrf(self) -> str:
        return self._http.cookies.get("csrftoken") or ""

    def _send(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        headers = {"X-CSRFToken": self._csrf, "Referer": self.server, "Accept": "application/json, text/html"}
        kwargs.setdefault("timeout", (CONNECT_S, READ_S))
        try:
            return self._http.request(method, self.server + path, headers=headers, allow_redirects=False, **kwargs)
        except requests.RequestException as error:
            raise unreachable(self.server, error) from error
