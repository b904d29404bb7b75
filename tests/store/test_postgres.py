"""What is PostgreSQL's own: addresses, refusals, restarts, and values that SQLite takes as they are."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text
from store.conftest import connect
from support.labelstudio import free_port
from support.postgres import PASSWORD, USER, Postgres

from backend.config import Settings
from backend.errors import ConfigError, StoreUnavailable
from backend.store import Answer, Store
from backend.store.engine import open_engine
from backend.store.tables import TaskRow
from backend.store.tasks import TaskChange

SENTENCE = re.compile(r"DATABASE_URL: [^\n]+")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The name of an empty database."""
    with postgres.database() as name:
        yield name


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_the_scheme_is_taken(scheme: str) -> None:
    engine = open_engine(f"{scheme}://u:p@h/d")
    assert (engine.dialect.name, engine.driver, engine.url.host) == ("postgresql", "psycopg", "h")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:s3cr@et@h/d", "the password has an @ in it"),
        ("postgresql://u:s3cret@h:s3cret/d", "no port where one should be"),
        ("postgresql+nodriver://u:s3cret@h/d", "nodriver"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_engine(url)
    assert says in str(refused.value)
    assert "s3cr" not in str(refused.value)
    assert "write sqlite:////path/to/file or postgresql://user:password@host/database" in str(refused.value)


def test_a_database_that_cannot_be_opened_is_named_in_a_sentence_without_the_password(
    postgres: Postgres, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    away = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{free_port()}/{database}"
    for url, says in (
        (postgres.tcp_url(database, "wr0ng"), "password authentication failed"),
        (postgres.tcp_url("nothing"), 'database "nothing" does not exist'),
        (away, "Connection refused"),
        (f"{postgres.tcp_url(database)}?sslmode=require", "SSL"),
        (f"{postgres.tcp_url(database)}?colour=blue", "colour"),
    ):
        with pytest.raises(ConfigError) as refused:
            Store(url, tmp_path)
        assert SENTENCE.fullmatch(str(refused.value)), refused.value
        assert says in str(refused.value)
        assert PASSWORD not in str(refused.value) + caplog.text
        assert "wr0ng" not in str(refused.value) + caplog.text
    Store(postgres.tcp_url(database), tmp_path).close()


def test_a_database_that_cannot_take_every_letter_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(ConfigError, match=r"keeps texts in LATIN1.* ENCODING 'UTF8'"):
        Store(postgres.url("latin"), tmp_path)


def test_the_work_goes_on_after_the_server_was_away(postgres: Postgres, database: str, tmp_path: Path) -> None:
    store = Store(postgres.tcp_url(database), tmp_path)
    key = connect(store).id
    with pytest.raises(StoreUnavailable, match="the work goes on by itself"):
        write_while_connections_end(store, key, postgres)
    assert store.of(key).row().notice is None
    postgres.stop()
    with pytest.raises(StoreUnavailable) as refused:
        store.of(key).row()
    assert "Connection refused" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)
    postgres.start()
    store.of(key).set(notice="again")
    assert store.of(key).row().notice == "again"
    store.close()


def write_while_connections_end(store: Store, key: int, postgres: Postgres) -> None:
    with store.write(key) as session:
        session.execute(text("UPDATE project SET notice = 'half'"))
        postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pt4al'")
        session.execute(text("UPDATE project SET notice = 'whole'"))


def test_a_process_opens_no_more_connections_than_it_may(
    postgres: Postgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.store.engine.BUSY_TIMEOUT_S", 0.2)
    url = postgres.url(database)
    store = Store.from_settings(Settings(database_url=url, data_dir=tmp_path, database_connections=2))
    with store.engine.connect(), store.engine.connect():
        with pytest.raises(StoreUnavailable, match="raise DATABASE_CONNECTIONS"):
            store.projects.all()
        (opened,) = postgres.run(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")
    assert opened == (2,)
    store.close()


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_odd_values_are_the_same_as_on_sqlite(store: Store) -> None:
    project = store.of(connect(store).id)
    project.tasks.apply([TaskChange(i, f"{i}.png", None, Answer.NONE, None) for i in range(3)])
    project.tasks.images_fetched({0: 0, 1: 1, 2: 2})
    project.tasks.set_losses({0: float("nan"), 1: 0.1, 2: float("inf")})
    project.tasks.set_batches({1: 0, 2: 0})
    assert project.tasks.counts(0.0).unscored == 1, "a loss that is no number is none"
    assert [task.task_id for task in project.tasks.unrecorded(9)] == [2, 1]
    assert project.tasks.unrecorded(9)[1].loss == 0.1, "to the last bit"
    project.tasks.apply([TaskChange(0, "0.png", None, Answer.LABELED, "a\0b ' 🐈 \\ %s")])
    assert project.tasks.targets() == [(0, "a\0b ' 🐈 \\ %s", False)]


def test_a_value_that_no_column_takes_is_refused_in_a_sentence(
    postgres: Postgres, database: str, tmp_path: Path
) -> None:
    store = Store(postgres.url(database), tmp_path)
    key = connect(store).id
    for work in (
        lambda: store.of(key).set(features_key="timm:" + "a" * 200),
        lambda: connect(store, studio_project_id=10**17),
        lambda: connect(store, server="http://" + "a" * 600),
    ):
        with pytest.raises(ConfigError, match="does not fit into the database"):
            work()
    assert len(store.projects.all()) == 1
    store.close()


def test_texts_have_no_character_0_in_postgresql(postgres: Postgres, database: str, tmp_path: Path) -> None:
    store = Store(postgres.url(database), tmp_path)
    project = store.of(connect(store).id)
    project.tasks.apply([TaskChange(1, "a\0.png", None, Answer.NONE, None)])
    project.set(notice="the file a\0.png", title="\0")
    with store.read() as session:
        assert session.scalar(select(TaskRow.image)) == "a\ufffd.png"
    assert (project.row().notice, project.row().title) == ("the file a\ufffd.png", "\ufffd")
    store.close()
