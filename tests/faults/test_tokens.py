"""A run in which every secret is known, and a search for each of them in all that the backend writes or says."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from faults.proxy import Proxy
from support.e2e_harness import Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer, free_port

from backend.config import Settings
from backend.store import Store

pytestmark = pytest.mark.e2e

USER, PASSWORD = "operator-of-pt4al", "a-password-to-search-for"
PAGES = ("/", "/health", "/metrics", "/projects", "/projects/{id}", "/api/projects", "/api/projects/{id}",
         "/api/projects/{id}/broken", "/versions", "/nothing", "/projects/{id}/figures/losses.json")  # fmt: skip


def test_no_secret_is_ever_written_or_said(
    label_studio: LabelStudioServer, personal_token: str, make_backend: Callable[..., Backend],
    make_project: Callable[..., LabelingProject], figures,
) -> None:  # fmt: skip
    project = make_project(30, connect=False)
    proxy = Proxy(free_port(), label_studio.url)
    backend = make_backend(
        LABEL_STUDIO_URL=proxy.url, LABEL_STUDIO_API_KEY=personal_token, LOG_LEVEL="DEBUG",
        BASIC_AUTH_USER=USER, BASIC_AUTH_PASS=PASSWORD,
    )  # fmt: skip
    http = requests.Session()
    http.auth = (USER, PASSWORD)
    try:
        project.annotator.connect_backend(
            project.id, backend.url, {"rounds": 2, "labels_per_round": 5},
            auth_method="BASIC_AUTH", basic_auth_user=USER, basic_auth_pass=PASSWORD,
        )  # fmt: skip

        def status() -> dict[str, object]:
            answer = http.get(f"{backend.url}/api/projects/{project.id}", timeout=10)
            return answer.json() if answer.ok else {}

        wait_for("the first queue", lambda: status().get("queue", {}).get("model_version"), 180)
        said = [http.get(backend.url + page.format(id=project.id), timeout=10) for page in PAGES]
        for mode in ("401", "500", "html", "drop"):  # whatever an error's text may carry along
            proxy.set(mode=mode, share=1.0)
            http.post(f"{backend.url}/api/projects/{project.id}/advance", timeout=10)
            wait_for(f"an error for {mode}", lambda: status().get("error"), 60)
            time.sleep(6)
            said += [http.get(backend.url + page.format(id=project.id), timeout=10) for page in PAGES]
        body = {"project": f"{project.id}.x", "access_token": personal_token, "extra_params": {"seed": personal_token}}
        said.append(http.post(f"{backend.url}/setup", json=body, timeout=10))
    finally:
        proxy.stop()
    secrets = {"legacy token": label_studio.token, "personal token": personal_token, "password": PASSWORD}
    secrets["webhook secret"] = webhook_secret(backend.data_dir, project.id)
    assert backend.stop() == 0
    texts = {answer.url: answer.content + str(answer.headers).encode() + answer.reason.encode() for answer in said}
    texts |= {str(path): path.read_bytes() for path in backend.data_dir.rglob("*") if path.is_file()}
    texts["log"] = backend.log.read_bytes()
    assert len(texts["log"]) > 1000
    found = [
        (where, name) for where, text in texts.items() for name, secret in secrets.items() if secret.encode() in text
    ]
    figures(secrets=len(secrets), texts=len(texts), found=len(found))
    assert found == []


def webhook_secret(data_dir: Path, studio_project_id: int) -> str:
    store = Store(Settings(data_dir=data_dir).database, data_dir)
    try:
        row = store.projects.find(studio_project_id)
        assert row is not None
        assert store.projects.token(row)
        return store.projects.webhook_secret(row) or ""
    finally:
        store.close()
