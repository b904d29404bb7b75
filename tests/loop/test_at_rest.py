"""A project that was put to rest by mistake comes back by itself, and no other does."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.config import Settings
from backend.errors import StudioMissing, StudioUnreachable
from backend.loop import advance
from backend.loop.context import Context
from backend.store import Store

OURS = SimpleNamespace(id=7, url="http://backend:9090", description="", version="")
OTHER = SimpleNamespace(id=8, url="http://sam:9090", description="Segment anything", version="")


class Studio:
    """What a project's Label Studio says of it: its creation time or an error, and its models."""

    def __init__(self, created_ts: str | Exception, *models: SimpleNamespace) -> None:
        self._created, self._models = created_ts, models

    def settings(self) -> SimpleNamespace:
        if isinstance(self._created, Exception):
            raise self._created
        return SimpleNamespace(created_ts=self._created)

    def ml_backends(self) -> list[SimpleNamespace]:
        return [*self._models]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Context]:
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    row, _ = store.projects.connect(
        studio_project_id=3, created_ts="100", server="http://studio", token="t", backend_url="http://backend:9090",
        label_config="<View/>", extra_params={},
    )  # fmt: skip
    store.projects.set(row.id, active=False, card="Round 1", card_id=7)
    yield Context(Settings(data_dir=tmp_path), store, SimpleNamespace())
    store.close()


@pytest.mark.parametrize(
    ("studio", "back"),
    [
        (Studio("100", OTHER, OURS), True),
        (Studio("100", OTHER), False),
        (Studio("100"), False),
        (Studio("200", OURS), False),
        (Studio(StudioMissing("gone")), False),
        (Studio(StudioUnreachable("down")), False),
    ],
    ids=["there again", "disconnected", "no model", "another project", "deleted", "down"],
)
def test_a_project_at_rest_wakes_when_it_is_there_and_we_are_connected(
    here: Context, monkeypatch: pytest.MonkeyPatch, studio: Studio, back: bool
) -> None:
    monkeypatch.setattr(advance, "studio_of", lambda *_: studio)
    (project,) = here.store.projects.all()
    assert advance.reactivate(here, project) == back
    assert here.store.projects.get(project.id).active == back
