"""The timer: every live project is looked at, and people are told while that cannot be asked for."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.config import Settings
from backend.errors import QueueUnavailable
from backend.loop import jobs
from backend.loop.context import Context
from backend.store import Store


class Queue:
    """Takes hints, or says why it does not."""

    def __init__(self) -> None:
        self.hinted: list[int] = []
        self.broken: str | None = None

    def wake(self, key: int, *, timer: bool) -> None:
        if self.broken:
            raise QueueUnavailable(self.broken)
        assert timer, "it waits behind the hints of people"
        self.hinted.append(key)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    for number in (1, 2, 3):
        store.projects.connect(
            studio_project_id=number, created_ts="100", server="http://studio", token=None, backend_url=None,
            label_config="<View/>", extra_params={},
        )  # fmt: skip
    store.projects.set(3, active=False)
    made = Context(Settings(data_dir=tmp_path), store, Queue())  # type: ignore[arg-type]
    monkeypatch.setattr(jobs, "context", lambda: made)
    monkeypatch.setattr(jobs, "time", SimpleNamespace(time=lambda: jobs.TICK_S))  # not the moment for those at rest
    yield made
    store.close()


def errors(here: Context) -> list[str | None]:
    return [project.error for project in here.store.projects.all()]


def test_every_live_project_is_looked_at(here: Context) -> None:
    jobs.tick()
    assert here.queueing.hinted == [1, 2]
    assert errors(here) == [None, None, None]


def test_those_at_rest_are_looked_at_now_and_then(here: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "time", SimpleNamespace(time=lambda: 5 * jobs.INACTIVE_S))
    jobs.tick()
    assert here.queueing.hinted == [1, 2, 3]


def test_people_are_told_when_no_work_can_be_given_out_and_a_projects_own_error_stays(here: Context) -> None:
    here.store.projects.set(2, error="The labeling interface has no <Image>.")
    here.queueing.broken = "Redis does not take jobs: No space left on device"
    jobs.tick()
    first, second, third = errors(here)
    assert first.startswith("Work waits, and goes on by itself")
    assert first.endswith("Redis does not take jobs: No space left on device")
    assert second == "The labeling interface has no <Image>."
    assert third is None, "it is at rest"
