from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from backend.errors import ConfigError
from backend.store import Store, schema
from backend.store.tables import Base


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'old.sqlite3'}"


def make_old(url: str, *, noted: bool) -> None:
    """A database as the first release left it: a project with two tasks, with or without its version noted."""
    engine = create_engine(url)
    with engine.begin() as connection:
        schema.migrate(connection, schema.FIRST)
        connection.execute(
            text(
                "INSERT INTO project (id, studio_id, created_ts, server, webhook_secret, label_config, extra_params, "
                "active, connected_at, pretext_images, training_requested) "
                "VALUES (1, 7, '1', 'http://studio', 'x', '<View/>', '{}', 1, 0, 0, 0)"
            )
        )
        for task, answer in ((1, "labeled"), (2, "none")):
            connection.execute(
                text(
                    "INSERT INTO task (project_id, task_id, state, attempts, answer, label, holdout) "
                    "VALUES (1, :task, 'ok', 0, :answer, 'cat', 0)"
                ),
                {"task": task, "answer": answer},
            )
        if not noted:
            connection.execute(text("DROP TABLE alembic_version"))
    engine.dispose()


@pytest.mark.parametrize("noted", [True, False])
def test_a_database_of_the_first_release_is_migrated_with_all_it_holds(url: str, tmp_path: Path, noted: bool) -> None:
    make_old(url, noted=noted)
    store = Store(url, tmp_path)
    counts = store.of(1).tasks.counts(0.0)
    assert (counts.tasks, counts.labeled, counts.available) == (2, 1, 1)
    assert store.projects.find(7).id == 1
    store.close()
    assert Store(url, tmp_path).of(1).tasks.counts(0.0) == counts  # and opens again


def test_the_migrations_lead_to_the_tables_of_this_release(url: str, tmp_path: Path) -> None:
    make_old(url, noted=True)
    store = Store(url, tmp_path)
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    scripts = ScriptDirectory(str(Path(schema.__file__).with_name("migrations")))
    assert scripts.get_current_head() == schema.NEWEST
    store.close()


def test_a_new_database_has_the_newest_version(store: Store) -> None:
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == schema.NEWEST
        assert "tally" in inspect(connection).get_table_names()


def test_a_database_of_a_newer_release_is_refused(url: str, tmp_path: Path) -> None:
    Store(url, tmp_path).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="newer release"):
        Store(url, tmp_path)


def test_a_migration_that_fails_leaves_the_old_database(url: str, tmp_path: Path, monkeypatch) -> None:
    make_old(url, noted=True)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr("alembic.operations.Operations.batch_alter_table", fail)
        with pytest.raises(RuntimeError, match="power"):
            Store(url, tmp_path)
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == schema.FIRST
        assert "tally" not in inspect(connection).get_table_names()
    engine.dispose()
    assert Store(url, tmp_path).of(1).tasks.counts(0.0).tasks == 2
