"""When and on which entries the model card is written. What Label Studio makes of it: tests/e2e."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.config import Settings
from backend.loop.context import Context
from backend.loop.steps import maintain_connection
from backend.store import Store
from backend.studio.types import MlBackend

CONFIG = '<View><Image name="i" value="$x"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'
URL = "http://backend:9090"


class Cards:
    """The entries under Settings > Model, with what is written on them."""

    def __init__(self, *urls: str) -> None:
        self.entries = [MlBackend(10 - n, 1, url, "PT4AL", "", None, "NONE", "", "CO") for n, url in enumerate(urls)]
        self.written: list[tuple[int, str]] = []

    def ml_backends(self) -> list[MlBackend]:
        return self.entries

    def describe_backend(self, entry: MlBackend, text: str) -> None:
        self.written.append((entry.id, text))


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setattr(maintain_connection, "_next_card", {})
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=URL, label_config=CONFIG,
        extra_params={},
    )  # fmt: skip
    yield Context(Settings(data_dir=tmp_path), store, SimpleNamespace())
    store.close()


def cards(monkeypatch: pytest.MonkeyPatch, *urls: str) -> Cards:
    made = Cards(*urls)
    monkeypatch.setattr(maintain_connection, "studio_of", lambda *_: made)
    return made


def test_the_card_is_written_once_while_its_words_stay(context: Context, monkeypatch) -> None:
    seen = cards(monkeypatch, URL)
    maintain_connection.write_card(context, 1)
    maintain_connection.write_card(context, 1)
    assert [number for number, _ in seen.written] == [10]


def test_a_second_entry_says_that_it_can_go(context: Context, monkeypatch) -> None:
    seen = cards(monkeypatch, f"{URL}/", "http://other:9090", URL)
    maintain_connection.write_card(context, 1)
    assert [number for number, _ in seen.written] == [8, 10]  # the oldest first
    assert [maintain_connection.TWICE in text for _, text in seen.written] == [False, True]


def test_in_haste_the_card_waits_but_not_for_ever(context: Context, monkeypatch) -> None:
    seen = cards(monkeypatch, URL)
    maintain_connection.write_card(context, 1, in_haste=True)  # the first one: nothing has been said yet
    context.store.projects.set(1, error="trouble")
    maintain_connection.write_card(context, 1, in_haste=True)
    assert len(seen.written) == 1
    now = maintain_connection.time.monotonic()
    monkeypatch.setattr(
        maintain_connection, "time", SimpleNamespace(monotonic=lambda: now + 61, time=maintain_connection.time.time)
    )
    maintain_connection.write_card(context, 1, in_haste=True)
    assert len(seen.written) == 2
    assert "trouble" in seen.written[1][1]


def test_the_only_model_left_is_not_taken_for_ours_once_ours_has_a_card(context: Context, monkeypatch) -> None:
    seen = cards(monkeypatch, "http://behind-a-proxy:9090")
    maintain_connection.write_card(context, 1)
    assert [number for number, _ in seen.written] == [10]  # until then it may be ours by another name
    project = context.store.projects.get(1)
    foreign = [replace(Cards("http://sam:9090").entries[0], id=11)]
    assert maintain_connection.ours_among(foreign, project) == []
    ours = [replace(foreign[0], description=project.card)]
    assert maintain_connection.ours_among(ours, project) == ours


def test_an_entry_that_is_known_stays_ours_whatever_is_written_on_it(context: Context, monkeypatch) -> None:
    cards(monkeypatch, "http://behind-a-proxy:9090")
    maintain_connection.write_card(context, 1)
    project = context.store.projects.get(1)
    entries = Cards("http://behind-a-proxy:9090", "http://sam:9090").entries
    ours = entries[:1]
    assert maintain_connection.ours_among(
        [replace(ours[0], description="My active learning"), entries[1]], project
    ) == [replace(ours[0], description="My active learning")]
    assert maintain_connection.ours_among(entries[1:], project) == []


def test_a_proxy_that_ends_tls_changes_only_the_scheme(context: Context) -> None:
    entries = Cards(f"https://{URL.partition('://')[2]}/", "http://sam:9090").entries
    assert maintain_connection.ours_among(entries, context.store.projects.get(1)) == entries[:1]
