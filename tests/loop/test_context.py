"""Which Label Studio a project's work goes to."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from backend.config import Settings
from backend.loop.context import Context, studio_of
from backend.queueing.queues import Queueing
from backend.store import Store


@pytest.mark.parametrize(
    ("set_later", "called"), [(None, "http://first:8080"), ("http://mended:8080", "http://mended:8080")]
)
def test_label_studio_url_wins_for_projects_that_are_connected_already(
    tmp_path: Path, set_later: str | None, called: str
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    project, _ = store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://first:8080", token="t", backend_url=None,
        label_config="<View/>",
        extra_params={},
    )  # fmt: skip
    settings = Settings(data_dir=tmp_path, label_studio_url=set_later, label_studio_api_key=SecretStr("k"))
    here = Context(settings, store, Queueing("unix:///nowhere"))
    try:
        assert studio_of(here, project).base == called
    finally:
        store.close()


def test_what_label_studio_calls_itself_comes_from_its_setup_call(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    given = {
        "studio_project_id": 1,
        "created_ts": "1",
        "server": "http://studio:8080",
        "token": "t",
        "backend_url": None,
        "label_config": "<View/>",
        "extra_params": {},
    }
    here = Context(Settings(data_dir=tmp_path), store, Queueing("unix:///nowhere"))
    image = "http://labels.example/data/a.png"
    try:
        for hostname, read in [("http://labels.example", "http://studio:8080/data/a.png"), ("http://moved", image)]:
            project, _ = store.projects.connect(**given, hostname=hostname)
            assert studio_of(here, project)._session.names.inward(image) == read
    finally:
        store.close()
